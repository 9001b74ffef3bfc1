"""The Red-Green test: which paddings let a small network exploit where things are?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.hold.studies.red_green_result import RedGreenResult  # noqa: F401


@dataclass(frozen=True)
class RedGreen(Study["RedGreenResult"]):
    """Train small networks on two blocks whose height gives the class away, and test whether they use it.

    The class is which of two blocks is on the left. A network that reads the height is right on *similar* pictures
    and wrong on *dissimilar* ones, where the hint is reversed (Kayhan & van Gemert, CVPR 2020, table 1). No pictures
    are needed. Every network is a cell; paddings and seeds may be added later in the same folder.

    Attributes:
        paddings: of all four convolutions: none, zeros, circular, f-conv (k - 1 zeros on each side), and, beyond the
            paper, reflect and replicate.
        seeds: of pictures and weights; at least two for intervals that contain the noise of training.
        epochs: most passes over the training pictures; training stops 8 epochs after the best one.
        pictures: three numbers: to train on, to choose the epoch by, and in either test set.

    Examples:
        $ whatwhere hold red-green --out red-green --workers 2
        $ whatwhere hold red-green --paddings zeros,circular,reflect --seeds 0,1,2 --epochs 20 --out red-green
    """

    kind: ClassVar[str] = "red-green"
    plan: ClassVar[str] = "whatwhere.hold.studies.red_green_plan:RedGreenPlan"
    result: ClassVar[str] = "whatwhere.hold.studies.red_green_result:RedGreenResult"

    paddings: tuple[str, ...] = ("none", "zeros", "circular", "f-conv")
    seeds: tuple[int, ...] = tuple(range(10))
    epochs: int = 50
    pictures: tuple[int, int, int] = (2000, 1000, 1000)
