"""From a curve to advice: the deepest removal that costs no more than a stated loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from whatwhere.costs import cost
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import GAP_FC, LABELS, MEAN, Point, Recommendation
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score

JUDGED = (GAP_FC, MEAN, "per-channel", "shared", "all")  # each removes all positions from a map
NO_BETTER = "is not above chance"  # said of an intact network that knows nothing
CONFIRM = " It was measured by {label}, not on the collapsed network: add gap_fc to methods to measure that one."


def recommend(
    points: Sequence[Point],
    within: float,
    intact: Network,
    collapsed: Callable[[str], Network],
    *,
    retrained: bool,
    recover: Callable[[Point], str] = lambda p: "",
    score: Score = ACCURACY,
) -> Recommendation:
    """The deepest removal whose loss is within what is allowed.

    A removal counts as within the loss when the upper end of its 95 % interval is. Only GAP+FC makes a network smaller,
    so its points are judged where there are any, else those of the next method that removes *where* entirely (other
    shuffles leave some of it, or remove something else); the text says which.

    Args:
        points: one group's removals.
        within: the loss allowed, in the score's own unit; of a share in [0, 1].
        intact: the network, to measure.
        collapsed: builds the network collapsed before a site, to measure.
        retrained: whether the removals were trained (or are test-time removals from a network trained with space).
        recover: a sentence on what could be done about a loss that is shown, for this removal; "" if nothing can.
        score: what was lost of.
    """
    drops = {p: p.drop for p in points if p.drop}
    judged = next((there for m in JUDGED if (there := [p for p in drops if p.method == m])), [])
    if not judged:
        return Recommendation(f"No depth is recommended: that needs one of {', '.join(JUDGED)}.", within)
    held = [p for p in judged if drops[p].high <= within]
    if not held:
        return Recommendation(_nothing({p: drops[p] for p in judged}, within, retrained, recover, score), within)
    deepest = max(held, key=lambda p: p.depth_share)
    advice = _advice(deepest, drops[deepest], within, retrained, score)
    try:
        small = collapsed(deepest.site)
    except InputError as error:  # a ViT's blocks can be shuffled, not collapsed
        return Recommendation(f"{advice} No smaller network: {error}", within)
    before, after = cost(intact), cost(small)
    speed = f" The network collapsed there is {before.latency_ms / after.latency_ms:.2f} times as fast."
    text = advice + speed + ("" if deepest.method == GAP_FC else CONFIRM.format(label=_name(deepest)))
    return Recommendation(text, within, deepest.site, before.to_dict(), after.to_dict())


def at_chance(intact: Estimate, chance: float, score: Score = ACCURACY) -> str:
    """That the intact network knows no more than which class is the commonest."""
    mean, low, high = 100 * intact.mean, 100 * intact.low, 100 * intact.high
    return (
        f"The intact network's {score.phrase}, {mean:.1f} % [{low:.1f}, {high:.1f}] on {counted(intact.n)}, "
        f"{NO_BETTER} ({100 * chance:.1f} %, the commonest class): its curve does not show what it needs."
    )


def check_within(within: float, score: Score = ACCURACY) -> None:
    """Refuse a loss that is not a share, or of a score that is no share, not a number from 0.

    Raises:
        InputError: for one below 0, or above the largest loss that there can be.
    """
    number = isinstance(within, int | float) and not isinstance(within, bool)
    if number and 0 <= within <= score.losses[1] and math.isfinite(within):
        return
    if score.unit == "%":
        raise InputError(f"within={within!r}: give a share from 0 to 1; 0.01 is one point.")
    raise InputError(f"within={within!r}: give a number from 0, in the unit of {score.label}.")


def _advice(p: Point, drop: Estimate, within: float, retrained: bool, score: Score) -> str:
    return (
        f"Within a {_allowed(within, score)}, the last {100 * p.depth_share:.0f} % of the convolutions need no "
        f"spatial information: {_name(p)} from {p.site} on changes {score.phrase} by {_change(drop, score)} "
        f"{_basis(p, drop, retrained)}."
    )


def _allowed(within: float, score: Score) -> str:
    return f"{score.lost} of {score.shown(within, digits=1)}{score.points}"


def _nothing(
    drops: Mapping[Point, Estimate], within: float, retrained: bool, recover: Callable[[Point], str], score: Score
) -> str:
    """Either every removal is shown to lose more, or so many pictures (or seeds) cannot tell."""
    open_ones = {p: d for p, d in drops.items() if d.low <= within}
    p = min(open_ones or drops, key=lambda p: drops[p].high)
    drop, head = drops[p], f"No removal by {_name(p)} is sure to stay within a {_allowed(within, score)}"
    found = f"from {p.site} on, changes {score.phrase} by {_change(drop, score)} {_basis(p, drop, retrained)}"
    if not open_ones:
        return f"{head}: even the mildest, {found}.{recover(p)}"
    return f"{head}: the mildest, {found}. " + _unresolved(drop, within, len(p.values) if retrained else 1, score)


def _unresolved(drop: Estimate, within: float, seeds: int, score: Score) -> str:
    """What the pictures or seeds cannot tell, and how many more could."""
    half = max(drop.high - drop.mean, drop.mean - drop.low)  # of an interval that no bound cuts off
    few = f"Differences under {score.shown(half, digits=1)}{score.points} are not resolved by so few"
    if seeds > 1:
        return f"{few} seeds: more seeds narrow the interval."
    if not 0 < within < half < math.inf:
        return f"{few} pictures."
    needed = drop.n * (half / within) ** 2
    digits, allowed = 2 - len(str(math.ceil(needed))), f"{score.shown(within, digits=1)}{score.points}"
    return f"{few} pictures: {allowed} take about {round(math.ceil(needed), digits):,}."


def _basis(p: Point, drop: Estimate, retrained: bool) -> str:
    """What a change rests on, and its control."""
    if not retrained:
        return f"on {counted(drop.n)}, against the intact network on the same, without retraining"
    if len(p.values) > 1:
        return f"over {len(p.values)} seeds, against intact networks trained alike with the same seeds"
    return f"on {counted(drop.n)} with one seed, against an intact network trained alike"


def counted(pictures: int) -> str:
    """A number of pictures in words."""
    return f"{pictures:,} picture{'' if pictures == 1 else 's'}"


def _change(drop: Estimate, score: Score) -> str:
    """The change of the score, whose sign is that of the score itself."""
    ends = sorted((-score.direction * drop.low, -score.direction * drop.high))
    mean, low, high = (score.shown(x, sign=True) for x in (-score.direction * drop.mean, *ends))
    return f"{mean}{score.points} (95 % interval {low} to {high})"


def _name(p: Point) -> str:
    return LABELS.get(p.method, f"{p.method} shuffling")
