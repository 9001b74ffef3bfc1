"""Can a network *say* what is where? Semantic concepts in place of channels."""

from whatwhere.bottleneck.insert import bottleneck
from whatwhere.bottleneck.layer import Bottleneck, layer_of, overwriting

__all__ = ["Bottleneck", "bottleneck", "layer_of", "overwriting"]
