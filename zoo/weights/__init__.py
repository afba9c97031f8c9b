"""Weights in and out: one file a format, saving, loading, and the proof that nothing changed."""
