"""Does recalibration help? The same network trained with each method, paired by seed and picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.options import Learned
from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.use.studies.compare_result import CompareResult  # noqa: F401

METHODS = ("none", "se", "ms_sar")


@dataclass(frozen=True)
class Methods(Learned):
    """A network that is trained with each recalibration method and seed.

    Attributes:
        methods: none, the plain network, always among them; wider, the plain network with as many parameters as ms_sar;
            se; ms_sar; a variant of theirs, ms_sar-per-cell, ms_sar-bilinear, ms_sar-symmetric, ms_sar-1-2, ms_sar-2,
            ms_sar-4, ms_sar-ratio-8, ms_sar-ratio-32, ms_sar-identity, se-ratio-8, se-ratio-32 or se-identity
            (identity: gates of exactly 1 before training); or one of timm's attention modules.
        seeds: of initial weights, order and augmentation, the same for every method; at least two for intervals that
            contain the noise of training.
    """

    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True)
class Compare(Methods, Study["CompareResult"]):
    """Train a network with each recalibration method and seed, and compare them with the plain network.

    Methods and seeds may be added later in the same folder: the result is of all that is finished there.

    Examples:
        $ whatwhere use compare --model cifar/resnet20 --data hf/uoft-cs/cifar100 --out use --workers 2
        $ whatwhere use compare --model cifar/resnet20 --data digits --methods se,wider --seeds 0 --epochs 2 --out use
    """

    kind: ClassVar[str] = "recalibration"
    plan: ClassVar[str] = "whatwhere.use.studies.compare_plan:ComparePlan"
    result: ClassVar[str] = "whatwhere.use.studies.compare_result:CompareResult"
