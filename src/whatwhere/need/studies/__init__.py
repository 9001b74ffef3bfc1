"""How much *where* does a network need? Two protocols: the test-time curve, and training and testing without."""
