"""The answer of a comparison of bottlenecks, and its failures, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whatwhere.say.studies.say_row import Interval, SayRow, row_of, sites_of

REASONS = 3  # concepts named for each failure
FAILURES = 12  # rows
ON_BRODEN = "Broden+"  # where inspectability was measured, if not on the scenes


def conclusion(rows: tuple[SayRow, ...], ceiling: Interval | None) -> str:
    """The answer first: the loss, the same-width controls, inspectability and confidence."""
    texts = [_of_site(rows, site) for site in sites_of(rows)]
    if ceiling:
        texts.insert(0, f"A table from the true concepts to classes reaches mIoU {ceiling.percent()} %.")
    return " ".join(t for t in texts if t)


def _of_site(rows: tuple[SayRow, ...], site: str) -> str:
    intact, ssb, learned = (row_of(rows, site, kind) for kind in ("intact", "ssb", "learned"))
    if not intact or not ssb or not ssb.change:
        return ""
    text = (
        f"At {site}, {intact.channels} channels become {ssb.channels} concepts: mIoU {100 * ssb.miou.value:.2f} % "
        f"against {100 * intact.miou.value:.2f} % intact ({ssb.change.percent(sign=True)} points, "
        f"{_word(ssb.change)})."
    )
    if learned:
        text += f" The same width without names (learned 1 x 1) reaches {100 * learned.miou.value:.2f} %."
    return text + _inspected(intact, ssb) + _sure(intact, ssb)


def _word(change: Interval) -> str:
    return "a loss" if change.high < 0 else "a gain" if change.low > 0 else "no significant difference"


def _inspected(intact: SayRow, ssb: SayRow) -> str:
    if "inspection" not in intact.extras or "inspection" not in ssb.extras:
        return ""
    a, b = (r.extras["inspection"]["auic"] for r in (intact, ssb))
    where = " on Broden+'s validation pictures" if on_broden(ssb) else ""
    return f" AUiC{where} {b:.3f} against {a:.3f} of the intact channels ({b / max(a, 1e-9):.1f} times)."


def on_broden(row: SayRow) -> bool:
    """Whether a row's inspectability was measured on pictures of Broden+."""
    return row.extras.get("inspection", {}).get("on") == ON_BRODEN


def _sure(intact: SayRow, ssb: SayRow) -> str:
    if "confidence" not in intact.extras or "concepts" not in ssb.extras.get("confidence", {}).get("measures", {}):
        return ""
    plain = intact.extras["confidence"]["measures"]["max softmax"]
    own = ssb.extras["confidence"]["measures"]
    return (
        f" At a threshold for {100 * ssb.extras['confidence']['accuracy']:.0f} % accuracy, the concepts' confidence "
        f"answers {100 * own['concepts']['coverage']:.1f} % of the pixels, the bottleneck's max softmax "
        f"{100 * own['max softmax']['coverage']:.1f} %, the intact network's {100 * plain['coverage']:.1f} %."
    )


def failure_lines(
    failures: Sequence[Mapping[str, Any]], classes: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The commonest failures, and in which concepts their pixels differ from those that are right."""
    return [
        {
            "true": classes[f["true"]],
            "predicted": classes[f["said"]],
            "pixels": f["pixels"],
            "share of the class": f"{100 * f['share']:.1f} %",
            "why": "; ".join(reason_text(r, names) for r in f["reasons"][:REASONS]),
        }
        for f in failures[:FAILURES]
    ]


def reason_text(reason: Mapping[str, Any], names: Sequence[str]) -> str:
    """How one concept differs, in words."""
    text = f"{names[reason['concept']]} {reason['wrong']:.2f} instead of {reason['right']:.2f}"
    there = reason["there"]
    return text if there is None else f"{text} (labelled there: {there:.2f})"
