"""Migration: what a file from elsewhere is, how it becomes a model of ours, and what was proven on the way."""
