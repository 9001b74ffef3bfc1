"""What the demo found: the comparison's result, and whether the planted failure was named at no cost."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

from whatwhere.data.street_objects import CONFUSED, DIFFERENCE
from whatwhere.report.page import Report
from whatwhere.say.studies.compare import SITE
from whatwhere.say.studies.compare_result import SayResult

FOLDER = "compare"  # of the comparison, in the demo's
WITHIN = 0.02  # that the bottleneck may cost


@dataclass(frozen=True)
class DemoResult(SayResult):
    """The comparison on drawn streets; its conclusion is whether the known answer came out."""

    kind: ClassVar[str] = "say demo"

    @classmethod
    def of(cls, found: SayResult) -> Self:
        """From the comparison's result."""
        return cls(**{f.name: getattr(found, f.name) for f in fields(found)})

    @property
    def conclusion(self) -> str:
        """Whether the known answer came out."""
        return verdict(self)

    def report(self, folder: Path | None = None) -> Report:
        """The comparison's page, with the known answer first."""
        own = super().report(folder / FOLDER if folder else None)
        pages = {label: f"{FOLDER}/{page}" for label, page in own.pages.items()}
        return replace(own, conclusion=f"{self.conclusion} {super().conclusion}", pages=pages)


def verdict(result: SayResult) -> str:
    """Whether the demo found the planted failure at no cost."""
    ssb, first = result.row(SITE, "ssb"), next(iter(result.failures()), None)
    if ssb is None or ssb.change is None or first is None:
        return "NOT as expected: the bottleneck is missing, or never fails."
    reason = first["why"].split(";")[0]
    named = {first["true"], first["predicted"]} == set(CONFUSED) and DIFFERENCE in reason
    word = "As expected" if named and ssb.change.value >= -WITHIN else "NOT as expected"
    return (
        f"{word}: the bottleneck costs {-100 * ssb.change.value:.2f} points of mIoU (at most {100 * WITHIN:.0f}), and "
        f"the commonest failure is {first['true']} predicted as {first['predicted']}, for {reason}."
    )
