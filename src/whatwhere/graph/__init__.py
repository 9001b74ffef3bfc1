"""The dataflow of a network: which values are computed from which, what goes round what, what mixes positions."""
