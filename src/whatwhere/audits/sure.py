"""How sure an audit is: what each part rests on, and how wide its intervals came out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from whatwhere.intervals import Estimate
from whatwhere.scores.score import Score

if TYPE_CHECKING:
    from whatwhere.audits.measured import Measured

WIDEST, PIXELS = "95 % interval, at most", "radius within which a place sees half, in pixels"


def rests_on(found: Measured) -> list[dict[str, Any]]:
    """A line for each part: pictures, draws and places, and half the width of its widest 95 % interval."""
    return list(_lines(found))


def in_short(found: Measured) -> str:
    """The same in one sentence; "" if nothing was measured."""
    widths = [f"{row[WIDEST]} for the {row['what']} ({row['pictures']:,} pictures)" for row in _lines(found)]
    return f"How sure: 95 % intervals of at most {', '.join(widths)}." if widths else ""


def _lines(found: Measured) -> Iterator[dict[str, Any]]:
    if need := found.need:
        drops = [p.drop for p in need.points if p.drop]
        yield from _line("need", f"loss of {need.measured.phrase}, layers without space", drops, need.measured)
    if patches := found.patches:
        drops = [c.drop for c in patches.rows if c.drop]
        yield from _line("patches", f"loss of {patches.measured.phrase}, patches shuffled", drops, patches.measured)
    if hold := found.hold:
        own = [r.spc for r in hold.of(inputs="pictures")]
        yield from _line("hold", "SPC of position, controls aside", own, None)
    if seen := found.parts.get("fields", {}).get("fields"):
        yield from _line("fields", PIXELS, [Estimate(**f["r50"]) for f in seen], None)


def _line(part: str, what: str, found: Sequence[Estimate], score: Score | None) -> Iterator[dict[str, Any]]:
    """Of finite intervals alone."""
    widest = max((e for e in found if e.half_width == e.half_width), key=lambda e: e.half_width, default=None)
    if widest is None:
        return
    half = f"{score.shown(widest.half_width, digits=1)}{score.points}" if score else f"{widest.half_width:.2g}"
    yield {
        "part": part,
        "what": what,
        WIDEST: f"±{half}",
        "pictures": widest.n,
        "draws": widest.repeats,
        "numbers": len(found),
        "covers": widest.covers,
    }
