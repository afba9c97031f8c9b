"""Necks: between the backbone and the rest."""
