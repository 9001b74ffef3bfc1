"""What a study of bottlenecks says, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whatwhere.studies.bottleneck.result import BottleneckResult, SayRow

REASONS = 3  # concepts named for each failure
FAILURES = 12  # rows


def conclusion(result: BottleneckResult) -> str:
    """The answer first: what is lost, against the same-width controls, how inspectable it is, how sure."""
    texts = [_of_site(result, site) for site in result.sites]
    if result.ceiling:
        texts.insert(0, f"A table from the true concepts to classes reaches mIoU {result.ceiling.percent()} %.")
    return " ".join(t for t in texts if t)


def _of_site(result: BottleneckResult, site: str) -> str:
    intact, ssb = result.row(site, "intact"), result.row(site, "ssb")
    if not intact or not ssb or not ssb.change:
        return ""
    text = (
        f"At {site}, {intact.channels} channels become {ssb.channels} concepts: mIoU {100 * ssb.miou.value:.2f} % "
        f"against {100 * intact.miou.value:.2f} % intact ({ssb.change.percent(sign=True)} points, "
        f"{_word(ssb.change.low, ssb.change.high)})."
    )
    learned = result.row(site, "learned")
    if learned:
        text += f" The same width without names (learned 1 x 1) reaches {100 * learned.miou.value:.2f} %."
    return text + _inspected(intact, ssb) + _sure(intact, ssb)


def _word(low: float, high: float) -> str:
    return "a loss" if high < 0 else "a gain" if low > 0 else "not told from none"


def _inspected(intact: SayRow, ssb: SayRow) -> str:
    if "inspection" not in intact.extras or "inspection" not in ssb.extras:
        return ""
    a, b = (r.extras["inspection"]["auic"] for r in (intact, ssb))
    return f" AUiC {b:.3f} against {a:.3f} of the intact channels ({b / max(a, 1e-9):.1f} times)."


def _sure(intact: SayRow, ssb: SayRow) -> str:
    if "confidence" not in intact.extras or "concepts" not in ssb.extras.get("confidence", {}).get("measures", {}):
        return ""
    plain = intact.extras["confidence"]["measures"]["max softmax"]
    said = ssb.extras["confidence"]["measures"]
    return (
        f" Where {100 * ssb.extras['confidence']['accuracy']:.0f} % was asked of the pixels answered, concepts answer "
        f"{100 * said['concepts']['coverage']:.1f} % of them, the bottleneck's max softmax "
        f"{100 * said['max softmax']['coverage']:.1f} %, the intact network's {100 * plain['coverage']:.1f} %."
    )


def failure_lines(
    failures: Sequence[Mapping[str, Any]], classes: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The commonest failures, and in which concepts their pixels differ from those that are right."""
    return [
        {
            "true": classes[f["true"]], "said": classes[f["said"]], "pixels": f["pixels"],
            "share of the class": f"{100 * f['share']:.1f} %",
            "why": "; ".join(reason_text(r, names) for r in f["reasons"][:REASONS]),
        }
        for f in failures[:FAILURES]
    ]  # fmt: skip


def reason_text(reason: Mapping[str, Any], names: Sequence[str]) -> str:
    """How one concept differs, in words."""
    seen = f"{names[reason['concept']]} {reason['wrong']:.2f} instead of {reason['right']:.2f}"
    there = reason["there"]
    return seen if there is None else f"{seen} (labelled there: {there:.2f})"
