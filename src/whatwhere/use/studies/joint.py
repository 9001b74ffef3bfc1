"""Does a recalibrated network hold more position, and need more spatial information, than the plain one?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.options import Selection
from whatwhere.lab.study import Study
from whatwhere.use.studies.compare import Methods

if TYPE_CHECKING:
    from whatwhere.use.studies.joint_result import JointResult  # noqa: F401


@dataclass(frozen=True)
class Joint(Methods, Study["JointResult"]):
    """Measure how much position each network of the comparison holds, and how much spatial information it needs.

    Networks that are not trained yet are trained first, as `whatwhere use compare` does with the same options, into
    the same folder. The joint result goes into `joint` in it.

    Attributes:
        sites: where to read position, and from where on to shuffle, chosen in the plain network; every residual or
            dense block if not given (12 evenly spaced ones at most).
        targets: maps of position to read out, H, V, G, HS or VS.
        pictures: pictures to fit the read-outs to.
        test_pictures: pictures to test the read-outs on.
        repeats: draws of every shuffle.
        limit: test pictures for accuracy under shuffling, at most.

    Examples:
        $ whatwhere use joint --model cifar/resnet20 --data hf/uoft-cs/cifar100 --out use --workers 2
        $ whatwhere use joint --model cifar/resnet20 --data digits --methods se --seeds 0,1 --epochs 2 --out use
    """

    kind: ClassVar[str] = "recalibration, joint"
    plan: ClassVar[str] = "whatwhere.use.studies.joint_plan:JointPlan"
    result: ClassVar[str] = "whatwhere.use.studies.joint_result:JointResult"

    sites: Selection = None
    targets: tuple[str, ...] = ("H", "V")
    pictures: int = 500
    test_pictures: int = 200
    repeats: int = 5
    limit: int = 2000
