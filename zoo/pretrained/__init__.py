"""Trained weights that ship with the package: an artifact and a record for each."""
