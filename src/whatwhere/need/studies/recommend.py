"""From a curve to advice: the deepest removal that costs no more than a stated loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from whatwhere.costs import cost
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import GAP_FC, LABELS, MEAN, Point, Recommendation
from whatwhere.network import Network

JUDGED = (GAP_FC, MEAN, "per-channel", "shared", "all")  # each removes all positions from a map
AT_CHANCE = "The intact network is not above chance on these pictures, so its curve does not show what it needs."
CONFIRM = " This was measured without collapsing: train the collapsed network to confirm it."
RECOVER = " Training the collapsed network (whatwhere need trained) may recover it."


def recommend(
    points: Sequence[Point], within: float, intact: Network, collapsed: Callable[[str], Network], *, retrained: bool
) -> Recommendation:
    """The deepest removal whose loss is within what is allowed.

    A removal counts as within the loss when the upper end of its 95 % interval is. Only GAP+FC makes a network smaller,
    so its points are judged where there are any, else those of the next method that removes *where* entirely (other
    shuffles leave some of it, or remove something else); the text says which.

    Args:
        points: one group's removals.
        within: the loss allowed, in [0, 1].
        intact: the network, to measure.
        collapsed: builds the network collapsed before a site, to measure.
        retrained: whether the removals were trained (or are test-time removals from a network trained with space).
    """
    drops = {p: p.drop for p in points if p.drop}
    judged = next((there for m in JUDGED if (there := [p for p in drops if p.method == m])), [])
    if not judged:
        return Recommendation(f"No depth is recommended: that needs one of {', '.join(JUDGED)}.", within)
    held = [p for p in judged if drops[p].high <= within]
    if not held:
        mildest = min(judged, key=lambda p: drops[p].mean)
        return Recommendation(_nothing(mildest, drops[mildest], within) + ("" if retrained else RECOVER), within)
    deepest = max(held, key=lambda p: p.depth_share)
    advice = _advice(deepest, drops[deepest], within, retrained)
    try:
        small = collapsed(deepest.site)
    except InputError as error:  # a ViT's blocks can be shuffled, not collapsed
        return Recommendation(f"{advice} No smaller network: {error}", within)
    before, after = cost(intact), cost(small)
    speed = f" The network collapsed there is {before.latency_ms / after.latency_ms:.2f} times as fast."
    text = advice + speed + ("" if deepest.method == GAP_FC else CONFIRM)
    return Recommendation(text, within, deepest.site, before.to_dict(), after.to_dict())


def check_within(within: float | None) -> None:
    """Refuse a loss that is not a share.

    Raises:
        InputError: for one below 0 or above 1.
    """
    if within is not None and not 0 <= within <= 1:
        raise InputError(f"within={within}: give a share from 0 to 1; 0.01 is one point.")


def _advice(p: Point, drop: Estimate, within: float, retrained: bool) -> str:
    how = "after training that way" if retrained else "without retraining"
    return (
        f"Within a loss of {100 * within:.1f} points, the last {100 * p.depth_share:.0f} % of the convolutions need no "
        f"spatial information: {LABELS.get(p.method, p.method)} from {p.site} on costs {_points(drop)}, {how}."
    )


def _nothing(p: Point, drop: Estimate, within: float) -> str:
    return (
        f"No removal by {LABELS.get(p.method, p.method)} is sure to stay within a loss of {100 * within:.1f} points: "
        f"the mildest, from {p.site} on, costs {_points(drop)}."
    )


def _points(drop: Estimate) -> str:
    return f"{100 * drop.mean:.2f} points (95 % interval up to {100 * drop.high:.2f})"
