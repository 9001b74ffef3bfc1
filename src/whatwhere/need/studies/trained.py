"""What does a network lose that is trained without spatial information? The paper's study (Fan et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from whatwhere.lab.options import Learned
from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.need.studies.result import NeedResult as NeedResult

METHODS = ("gap_fc", "per-channel")
SHARES = (0.31, 0.54, 0.77, 1.0)


@dataclass(frozen=True)
class Trained(Learned, Study["NeedResult"]):
    """Train and test networks without spatial information, at every depth, method and seed.

    Seeds, shares and methods may be added later in the same folder: the result is of all that is finished there. An
    interrupted training resumes from its last epoch.

    Attributes:
        methods: gap_fc (collapsed before training), pointwise, pointwise-average, pointwise-max (1 x 1 convolutions,
            after 3 x 3 pools), truncate (what follows is gone), or shuffle modes (per-channel, shared, all, channel,
            channel-per-position, block, rows, columns, fixed) in training and in testing.
        shares: shares of the convolutions, from the last, that lose spatial information, such as 0.31,0.54.
        seeds: one network each, of initial weights, order, augmentation and draws; at least two for intervals that
            contain the noise of training.
        matrix: those of the shares at which intact and shuffled networks are each tested both ways; the first if not
            given.
        plain_shares: shares (0 is intact) also trained without augmentation, by GAP+FC.
        repeats: draws for each test under a shuffle.
        within: accuracy that the recommendation may cost, from 0 to 1; 0.01 is one point.
        score: accuracy, or top5.

    Examples:
        $ whatwhere need trained --model cifar/vgg16 --data hf/uoft-cs/cifar100 --workers 2 --out fan2020
        $ whatwhere need trained --model cifar/vgg11 --data digits --shares 0.62 --seeds 0 --epochs 2 --out trained
    """

    kind: ClassVar[str] = "dependency"
    plan: ClassVar[str] = "whatwhere.need.studies.trained_plan:TrainedPlan"
    result: ClassVar[str] = "whatwhere.need.studies.result:NeedResult"

    methods: tuple[str, ...] = METHODS
    shares: tuple[float, ...] = SHARES
    seeds: tuple[int, ...] = (0, 1, 2)
    matrix: tuple[float, ...] | None = None
    plain_shares: tuple[float, ...] = ()
    repeats: int = 10
    within: float = 0.01
    score: Literal["accuracy", "top5"] = "accuracy"
