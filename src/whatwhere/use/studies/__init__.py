"""Recalibration compared: the same network with and without, trained alike."""
