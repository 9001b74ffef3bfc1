"""Does the measurement give the answers known in advance? On pictures that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.need.studies.demo_result import DemoResult as DemoResult


@dataclass(frozen=True)
class Demo(Study["DemoResult"]):
    """Train small networks on two tasks with a known answer and on digits, with and without spatial information.

    It takes a few minutes on two cores and downloads nothing; every task resumes where it was interrupted.

    Attributes:
        within: accuracy that the recommendations may cost, from 0 to 1; 0.01 is one point.

    Examples:
        $ whatwhere need demo --out demo
        $ whatwhere need demo --workers 2 --within 0.03 --out demo
    """

    kind: ClassVar[str] = "demo"
    plan: ClassVar[str] = "whatwhere.need.studies.demo_plan:DemoPlan"
    result: ClassVar[str] = "whatwhere.need.studies.demo_result:DemoResult"

    within: float = 0.01
