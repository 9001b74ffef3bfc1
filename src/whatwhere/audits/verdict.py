"""The answer in three sentences: what the network needs, what it holds, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from whatwhere.intervals import Estimate
from whatwhere.models.weights import RANDOM
from whatwhere.need.studies.recommend import NO_BETTER
from whatwhere.need.studies.result import GAP_FC, NeedResult, Point
from whatwhere.scores.score import Score

if TYPE_CHECKING:
    from whatwhere.audits.measured import Measured
    from whatwhere.hold.studies.readout_result import Row

SHUFFLED, CIRCULAR = "per-channel", "padding circular"
NO_LOSS = "a network that answers without looking at the picture would lose nothing either."
UNASKED = "it was not asked for"  # said of a part that the user left out
WITHIN = 0.01  # the loss allowed where an audit does not say


def verdict(found: Measured) -> list[str]:
    """Three sentences, fewer where parts are missing, and one for each part that was trained.

    Above them, if the tool itself answers wrong, that it does.
    """
    learned = [result.conclusion for result in found.trained.values()]
    return [*_wrong(found), *_needs(found), *_holds(found), *_does(found), *learned]


def _wrong(found: Measured) -> Iterator[str]:
    wrong = [k["question"] for k in found.known if not k["right"]]
    if wrong:
        asked = "; ".join(wrong)
        yield f"Do not trust this audit: asked what is known, whatwhere answers wrong on this machine ({asked})."


def _needs(found: Measured) -> Iterator[str]:
    need = found.need
    if need is None:
        why = found.left_out.get("need", "")
        yield from [f"What it needs was not measured: {why}"] if why and UNASKED not in why else []
        return
    score, intact = need.measured, need.intact[0].score
    rows = sorted((p for p in need.points if p.method == SHUFFLED and p.drop), key=lambda p: p.depth_share)
    where = found.data.get("name", "data")
    every = found.settings.get("pictures", 0)
    of_all = f"{intact.n:,} of {every:,}" if intact.n < every else f"{intact.n:,}"
    start = f"{found.network} has {_estimate(intact, score)} {score.label} on {of_all} pictures of {where}"
    if _knows_nothing(need):
        yield f"{start}, which {NO_BETTER}: what shuffling costs it says nothing."
        return
    yield f"{start}. {_where(rows, need, score)}" if rows else f"{start}."


def _knows_nothing(need: NeedResult) -> str:
    """That the network is no better than chance, as its curve says it; "" of any other."""
    said = (*need.notes, need.recommendation.text if need.recommendation else "")
    return next((text for text in said if NO_BETTER in text), "")


def _where(rows: Sequence[Point], need: NeedResult, score: Score) -> str:
    """Where it begins to lose by shuffling, and how much."""
    lost = [p for p in rows if p.drop and p.drop.low > 0]
    if not lost:
        return "No place was found where shuffling its features is shown to cost it anything."
    if need.reach != "from":
        return _alone(rows, lost, score)
    first = lost[0]
    most = max(lost, key=_mean)
    deepest = f", and most from {most.site} on: {_lost(most, score)}" if most is not first else ""
    kept = [p for p in rows if p.depth_share < first.depth_share]
    without = f"; the last {100 * kept[-1].depth_share:.0f} % are not shown to need any" if kept else ""
    place = f"from {first.site} on (the last {100 * first.depth_share:.0f} %)"
    return f"It needs to know where: shuffled {place} it loses {_lost(first, score)}{deepest}{without}."


def _alone(rows: Sequence[Point], lost: Sequence[Point], score: Score) -> str:
    """Of places that were shuffled one by one."""
    least, most = min(lost, key=_mean), max(lost, key=_mean)
    where = "at each" if len(lost) == len(rows) else f"at {len(lost)}"
    asked = f"{where} of the {len(rows)} places asked"
    if least is most:
        return f"It needs to know where: shuffled at {most.site} alone it loses {_lost(most, score)}."
    return (
        f"It needs to know where: shuffled at one place alone it loses {asked}, from {_lost(least, score)} at "
        f"{least.site} to {_lost(most, score)} at {most.site}."
    )


def _mean(point: Point) -> float:
    return point.drop.mean if point.drop else 0.0


def _lost(point: Point, score: Score) -> str:
    assert point.drop
    return _estimate(point.drop, score, points=True)


def _estimate(e: Estimate, score: Score, *, points: bool = False) -> str:
    unit = score.points if points else f" {score.unit}" if score.unit else ""
    return f"{score.shown(e.mean, digits=1)}{unit} [{score.shown(e.low, digits=1)}, {score.shown(e.high, digits=1)}]"


def _holds(found: Measured) -> Iterator[str]:
    hold = found.hold
    if hold is None:
        return
    rows = hold.of(target="H", inputs="pictures")
    single = [r for r in rows if r.site not in ("all", "rgb")]
    if not single:
        return
    best = max(single, key=lambda r: r.spc.mean)
    spc = f"SPC {best.spc.mean:.2f} [{best.spc.low:.2f}, {best.spc.high:.2f}]"
    fresh, other = (
        next((r for r in hold.of(network, target="H", inputs="pictures") if r.site == best.site), None)
        for network in ("untrained", CIRCULAR)
    )
    held = "holds absolute position" if best.spc.low > 0.2 else "holds little absolute position"
    yield (
        f"It {held}: left to right, it is read out of {best.site} with {spc} (1 is perfect)."
        f"{_beside(best, fresh, _random(found)) if fresh else ''}{_padded(best, other) if other else ''}"
    )


def _random(found: Measured) -> bool:
    """Whether the network was not trained itself."""
    return any(RANDOM in note for note in found.notes)


def _beside(row: Row, fresh: Row, random: bool) -> str:
    """How a read-out compares with that of untrained networks, whose own interval is wide."""
    above, many = row.above_untrained, fresh.spc.repeats > 1
    names = f"{fresh.spc.repeats} untrained networks" if many else "an untrained network"
    if random:
        return f" Out of {names}, whose weights were drawn anew: {fresh.spc.mean:.2f}; its own are random as well."
    if (above.low if above else row.spc.mean - fresh.spc.mean) > 0:
        so = "training put more of it there"
    elif above and above.high < 0:
        so = "the layers give it without training, which removed some"
    else:
        so = "training is not shown to have put it there"
    return f" Out of {names}: {fresh.spc.mean:.2f}, so {so}."


def _padded(row: Row, other: Row) -> str:
    """What of it is left without zeros at the border."""
    said = f" The same weights with circular padding: {other.spc.mean:.2f}"
    if other.spc.mean < row.spc.mean / 2:
        return f"{said}, so zero padding gives most of it there."
    if other.spc.high < row.spc.low:
        return f"{said}, so zero padding gives some of it there, and what gives the rest was not asked."
    return f"{said}, so zero padding is not shown to give it there."


def _does(found: Measured) -> Iterator[str]:
    """What to do: collapse it where that is shown to cost little enough, else what the mildest collapse costs."""
    need = found.need
    advice = need.recommendation if need else None
    if need is None:
        return
    if nothing := _knows_nothing(need):
        yield f"Nothing is recommended. {nothing}"
        return
    if advice is None:
        yield from _spares(need, found.settings.get("within", WITHIN))
        return
    if advice.site:
        yield f"A smaller network would do. {advice.text}"
        return
    drops = {p: p.drop for p in need.points if p.method == GAP_FC and p.drop}
    if not drops:
        yield f"Keep it as it is. {advice.text}"
        return
    mildest = min(drops, key=lambda p: drops[p].mean)
    score, cost = need.measured, drops[mildest]
    open_ = "" if cost.low > advice.within else " More pictures would tell whether that is so."
    allowed = f"{score.shown(advice.within, digits=1)}{score.points} were allowed (--within)"
    yield (
        "Keep its late spatial resolution: of the smaller networks (GAP+FC: layers get a mean for each channel, and no "
        f"map) the mildest, from {mildest.site} on, loses {_estimate(cost, score, points=True)} without retraining, "
        f"and {allowed}.{open_} Fine-tuning on training pictures may bring some of it back (whatwhere need recover)."
    )


def _spares(need: NeedResult, within: float) -> Iterator[str]:
    """Of places that were shuffled one by one: which are shown to do without, else what the mildest costs."""
    drops = {p: p.drop for p in need.points if p.method == SHUFFLED and p.drop}
    if need.reach == "from" or not drops:
        return
    score, spared = need.measured, [p.site for p, drop in drops.items() if drop.high <= within]
    allowed = f"{score.shown(within, digits=1)}{score.points}"
    if not any(drop.low > 0 for drop in drops.values()):
        yield f"Nothing is recommended: {NO_LOSS}"
    elif spared:
        some = f"Not every part needs where: shuffled alone, {', '.join(spared)} {'stay' if spared[1:] else 'stays'}"
        each = (
            f"No part that was asked needs more of where than that: shuffled alone, each of {', '.join(spared)} stays"
        )
        yield (
            f"{some if len(spared) < len(drops) else each} within the {allowed} allowed, so 1 x 1 convolutions may do "
            "there (whatwhere need pointwise)."
        )
    else:
        yield _least(drops, score, within, allowed)


def _least(drops: Mapping[Point, Estimate], score: Score, within: float, allowed: str) -> str:
    """What the place that needs where least costs."""
    least = min(drops, key=lambda p: drops[p].mean)
    open_ = "" if drops[least].low > within else " More pictures would tell whether that is so."
    cost = _estimate(drops[least], score, points=True)
    return (
        f"Keep its spatial layers: of the {len(drops)} places asked, the least is lost at {least.site}, {cost} when "
        f"shuffled alone, and {allowed} were allowed (--within). What training would bring back was not asked.{open_}"
    )
