"""Fit and evaluate a network."""
