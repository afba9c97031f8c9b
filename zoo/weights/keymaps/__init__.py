"""The keymaps that come with zoo, a library a file: rules only, no code."""
