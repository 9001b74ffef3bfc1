"""Does the bottleneck name a failure that is known in advance? On scenes that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from whatwhere.lab.study import Study

if TYPE_CHECKING:
    from whatwhere.say.studies.demo_result import DemoResult as DemoResult


@dataclass(frozen=True)
class Demo(Study["DemoResult"]):
    """Train on drawn streets, insert a bottleneck of parts and materials, and find its planted failure.

    It takes a few minutes on two cores and downloads nothing; an interrupted training resumes from its last epoch.

    Examples:
        $ whatwhere say demo
        $ whatwhere say demo --out streets
    """

    kind: ClassVar[str] = "say demo"
    plan: ClassVar[str] = "whatwhere.say.studies.demo_plan:DemoPlan"
    result: ClassVar[str] = "whatwhere.say.studies.demo_result:DemoResult"
    usual_out: ClassVar[str] = "demo-say"
