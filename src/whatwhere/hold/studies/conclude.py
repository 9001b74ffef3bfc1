"""What the rows say, in words; never a number without its control."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.hold.features import RGB
from whatwhere.hold.studies.pictures import PICTURES
from whatwhere.hold.studies.readout_result import ALL, Row
from whatwhere.hold.studies.variants import GIVEN, UNTRAINED


def conclude(rows: Sequence[Row]) -> str:
    """One sentence: the best read-out of each target (best on these test pictures), and its untrained control."""
    pictured = [r for r in rows if r.inputs == PICTURES]
    readout, kernel = pictured[0].readout, pictured[0].kernel
    chosen = [r for r in pictured if (r.readout, r.kernel) == (readout, kernel)]
    sentences = [_sentence(chosen, target) for target in dict.fromkeys(r.target for r in chosen)]
    return f"With the {kernel}x{kernel} {readout} read-out: {'; '.join(sentences)}."


def _sentence(rows: Sequence[Row], target: str) -> str:
    own = [r for r in rows if r.network == GIVEN and r.target == target]
    best = max([r for r in own if r.site != RGB] or own, key=lambda r: r.spc.mean)
    if best.site == RGB:
        return f"{target} is read out of the raw input with SPC {best.spc.mean:.2f}"
    site = "all sites together" if best.site == ALL else best.site
    text = f"{target} is held best by {site} (SPC {best.spc.mean:.2f}"
    fresh = next((r for r in rows if r.network == UNTRAINED and r.place == best.place), None)
    if fresh is None:
        return f"{text}; no untrained network was measured, so this may be the architecture alone)"
    if best.above_untrained is None:
        return f"{text}; a single untrained network: {fresh.spc.mean:.2f})"
    above = best.above_untrained
    verdict = "more than" if above.low > 0 else "less than" if above.high < 0 else "not clearly more or less than"
    return f"{text}, {verdict} the {fresh.spc.repeats} untrained networks' {fresh.spc.mean:.2f})"
