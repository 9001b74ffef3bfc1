"""What an audit's page draws: the network as a strip, then each question's curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import GAP_FC
from whatwhere.report.charts import Chart, Strip, Track
from whatwhere.report.figures import Line

if TYPE_CHECKING:
    from whatwhere.audits.measured import Measured
    from whatwhere.hold.studies.readout_result import ReadoutResult, Row
    from whatwhere.need.studies.result import NeedResult

SHUFFLED, FIRST = "per-channel", "H"  # the removal and the target that the strip shows
STRIP = "From the picture (left) to the answer (right)"
ABOUT_STRIP = (
    "Three things along the network: what shuffling the positions costs, how well position from left to right "
    "can be read out of the features (diamonds: untrained networks), and within how many pixels of the picture around "
    "it lies half of what a place looks at. Where a place has neither bar nor interval, it was not asked."
)

ABOUT_NEED = {
    SHUFFLED: "Per-channel: the positions of each channel change places by themselves, in front of the layers (the "
    "paper's spatial shuffle; it also takes apart what channels have in common at a place, so that a loss is not of "
    "positions alone)",
    "mean": "spatial mean: each channel is its mean everywhere",
    GAP_FC: "GAP+FC: what follows gets that mean alone, which makes the network smaller",
}  # by removal


def charts_of(found: Measured) -> Iterator[Chart | Strip]:
    """The strip, then a chart for each part."""
    if tracks := list(_tracks(found)):
        yield Strip("strip", STRIP, [s["name"] for s in found.sites], tracks, ABOUT_STRIP)
    if need := found.need:
        yield replace(need.chart("need", "Need: what is lost without spatial information"), about=_about(need))
    if patches := found.patches:
        yield patches.chart("patches", "Need, in the picture itself: patches that change places")
    if hold := found.hold:
        yield _held(hold)


def _about(need: NeedResult) -> str:
    """What the removals are, what the loss is measured against, and what the intervals hold."""
    methods = {p.method for p in need.points}
    removals = "; ".join(text for name, text in ABOUT_NEED.items() if name in methods)
    covers = next((p.drop.covers for p in need.points if p.drop), "")
    return (
        f"{removals}. The control is the same network, as it is, on the same pictures (dashed). Left is near the "
        f"answer, right near the picture.{covers and f' Intervals cover {covers}, not another training.'}"
    )


def _tracks(found: Measured) -> Iterator[Track]:
    names = [s["name"] for s in found.sites]
    score = found.measured
    if need := found.need:
        drops = {p.site: p.drop for p in need.points if p.method == SHUFFLED}
        worse = "lost" if score.higher_is_better else "more"
        yield _track(f"{worse} by shuffling, {score.points.strip() or score.label}", names, drops, score.scale)
    if hold := found.hold:
        own, fresh = (_by_site(hold.of(n, target=FIRST, inputs="pictures")) for n in ("network", "untrained"))
        control = [fresh[n].mean if n in fresh else None for n in names]
        yield _track("columns read out, SPC (1 is perfect)", names, own, 1.0, control, "untrained networks")
    fields = {f["site"]: f["r50"] for f in found.parts.get("fields", {}).get("fields", ())}
    if fields:
        yield _track("sees half within, px", names, {n: _estimate(e) for n, e in fields.items()}, 1.0)


def _estimate(plain: Mapping[str, Any]) -> Estimate:
    return Estimate(**plain)


def _by_site(rows: Sequence[Row]) -> dict[str, Estimate]:
    return {r.site: r.spc for r in rows}


def _track(
    label: str,
    names: Sequence[str],
    found: Mapping[str, Estimate | None],
    scale: float,
    control: Sequence[float | None] = (),
    control_label: str = "",
) -> Track:
    rows = [found.get(n) for n in names]
    mean, low, high = ([None if e is None else scale * getattr(e, part) for e in rows] for part in PARTS)
    return Track(label, mean, low, high, control, control_label)


PARTS = ("mean", "low", "high")


def _held(hold: ReadoutResult) -> Chart:
    """SPC of columns and rows at each site, with the controls."""
    rows = [r for r in hold.rows if r.inputs == "pictures" and r.site not in ("all", "rgb")]
    ticks = list(dict.fromkeys(r.site for r in rows))
    lines, controls, hidden = [], [], []
    for target in dict.fromkeys(r.target for r in rows):
        for network in dict.fromkeys(r.network for r in rows):
            chosen = [r for r in rows if (r.target, r.network) == (target, network)]
            label = f"{target}" if network == "network" else f"{target}, {network}"
            lines.append(_line(label, chosen, ticks))
            controls += [label] if network != "network" else []
            hidden += [label] if target != FIRST else []
    about = (
        "H: from left to right, V: from top to bottom, G: the middle. SPC is the rank correlation of the map that is "
        "read out with the true one: 1 is perfect, 0 is nothing. Controls: untrained networks (whose intervals are "
        "wide, being few), the same weights with another padding, and positions to be read in a random order."
    )
    title = "Hold: position read out of the features"
    return Chart("hold", title, "", "SPC", lines, {}, controls, hidden, ticks, about)


def _line(label: str, rows: Sequence[Row], ticks: Sequence[str]) -> Line:
    ordered = sorted(rows, key=lambda r: ticks.index(r.site))
    x, y = tuple(float(ticks.index(r.site)) for r in ordered), tuple(r.spc.mean for r in ordered)
    return Line(label, x, y, tuple(r.spc.low for r in ordered), tuple(r.spc.high for r in ordered))
