"""What the demo found: the comparison's result, and whether the planted failure was named, and at what cost."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Self

from whatwhere.data.street_objects import CONFUSED, DIFFERENCE
from whatwhere.report.page import Report
from whatwhere.say.studies.compare import SITE
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.words import control_text

FOLDER = "compare"  # of the comparison, in the demo's
CONTROL = "learned"  # of the same width, without names, fine-tuned alike
WITHIN = 0.02  # that the bottleneck may cost, set before it was measured against this control


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
    """Whether the demo found the planted failure, at no more than the usual cost.

    The cost is against the fine-tuned control of the same width, and the far end of its interval decides.
    """
    ssb, control = result.row(SITE, "ssb"), result.row(SITE, CONTROL)
    first = next(iter(result.failures(SITE)), None) if ssb else None
    if not ssb or not control or CONTROL not in ssb.against or not first:
        return "NOT as expected: the bottleneck or its fine-tuned control is missing, or it never fails."
    cost, reason = ssb.against[CONTROL], first["why"].split(";")[0]
    named = {first["true"], first["predicted"]} == set(CONFUSED) and DIFFERENCE in reason
    word = "As expected" if named and cost.low >= -WITHIN else "NOT as expected"
    return (
        f"{word}: against {control_text(CONTROL, control.channels)}, {ssb.channels} concepts cost at most "
        f"{-100 * cost.low:.2f} points of mIoU ({-100 * cost.value:.2f} on {result.data['sizes']['test']} test "
        f"pictures; allowed {100 * WITHIN:.0f}), and the commonest failure is {first['true']} predicted as "
        f"{first['predicted']} ({first['share of the class']} of the class), for {reason}."
    )
