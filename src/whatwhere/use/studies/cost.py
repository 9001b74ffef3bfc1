"""What does recalibration cost? Parameters, operations, latency and memory with each method; nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.options import AnyData
from whatwhere.lab.study import Study
from whatwhere.use.studies.compare import METHODS

if TYPE_CHECKING:
    from whatwhere.use.studies.cost_result import CostResult  # noqa: F401


@dataclass(frozen=True)
class Cost(Study["CostResult"]):
    """Measure what each recalibration method adds to a network: parameters, FLOPs, latency and training memory.

    Nothing is trained. The networks take turns in every round, so that a busy machine slows all of them alike.

    Attributes:
        model: timm/NAME, torchvision/NAME, cifar/NAME, or a folder that ww.save wrote.
        data: hf/ID, a folder, known/what, known/where, known/surroundings or digits; it gives the number of classes and
            the size of a picture.
        width: width factor of cifar/ networks.
        methods: those of `whatwhere use compare`; none, the plain network, is always among them.
        batch: pictures in a forward pass.
        rounds: forward passes of each network.

    Examples:
        $ whatwhere use cost --model timm/resnet50 --data photos --methods se,ms_sar,eca --out cost
        $ whatwhere use cost --model cifar/resnet20 --data digits --methods ms_sar,se-ratio-8 --rounds 30 --out cost
    """

    kind: ClassVar[str] = "recalibration cost"
    plan: ClassVar[str] = "whatwhere.use.studies.cost_plan:CostPlan"
    result: ClassVar[str] = "whatwhere.use.studies.cost_result:CostResult"

    model: str
    data: AnyData
    width: float = 1.0
    methods: tuple[str, ...] = METHODS
    batch: int = 16
    rounds: int = 10
