"""How much *where* do features hold? Position read out of frozen features, and where it comes from."""

from whatwhere.position.features import Reader, Tap, rgb_tap, taps_of
from whatwhere.position.official import Official, OfficialReadOut, train_readouts
from whatwhere.position.padding import PADDINGS, with_padding
from whatwhere.position.pattern import padding_pattern
from whatwhere.position.permute import PermuteChannels, gap_net, permute_net
from whatwhere.position.ridge import Group, LinearReadOut, RidgeFit
from whatwhere.position.score import Scores, score
from whatwhere.position.targets import TARGETS, Target, targets_of
from whatwhere.position.uneven import even_sizes, uneven_padding

__all__ = [
    "PADDINGS",
    "TARGETS",
    "Group",
    "LinearReadOut",
    "Official",
    "OfficialReadOut",
    "PermuteChannels",
    "Reader",
    "RidgeFit",
    "Scores",
    "Tap",
    "Target",
    "even_sizes",
    "gap_net",
    "padding_pattern",
    "permute_net",
    "rgb_tap",
    "score",
    "taps_of",
    "targets_of",
    "train_readouts",
    "uneven_padding",
    "with_padding",
]
