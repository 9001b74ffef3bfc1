"""Scores: what a network is worth on some pictures, as a value that studies take; see README.md."""
