"""The hostile corpus: weights files that attack their reader, built byte by byte so that no writer can change them."""
