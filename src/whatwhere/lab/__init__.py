"""A study's cells, the store that survives a kill, and who runs them."""
