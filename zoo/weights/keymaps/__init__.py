"""Keymaps: the engine of two-way tables between parameter names, and the tables that come with zoo."""
