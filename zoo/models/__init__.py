"""Named models: specs with a name, numbers only."""
