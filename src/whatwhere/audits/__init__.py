"""All four questions about one network: one command, one page."""
