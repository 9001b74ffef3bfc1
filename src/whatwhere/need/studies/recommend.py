"""From a curve to advice: the deepest removal that costs no more than a stated loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from whatwhere.cost import cost
from whatwhere.errors import InputError
from whatwhere.network import Network
from whatwhere.studies.dependency.result import LABELS, Point, Recommendation

GAP_FC = "gap_fc"
JUDGED = (GAP_FC, "mean", "per-channel", "shared", "all")  # what is left of a map after them has no positions
AT_CHANCE = "The intact network is not above chance on these pictures: nothing can be told of what it needs."
CONFIRM = " This was measured by shuffling: train the collapsed network to confirm it."


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
    judged = next((there for m in JUDGED if (there := [p for p in points if p.method == m and p.drop])), [])
    if not judged:
        return Recommendation(f"No depth is recommended: that takes one of {', '.join(JUDGED)}.", within)
    held = [p for p in judged if p.drop and p.drop.high <= within]
    if not held:
        return Recommendation(_nothing(judged, within, retrained), within)
    deepest = max(held, key=lambda p: p.depth_share)
    try:
        small = collapsed(deepest.site)
    except InputError as error:  # a ViT's blocks can be shuffled, not collapsed
        return Recommendation(f"{_advice(deepest, within, retrained)} No smaller network: {error}", within)
    before, after = cost(intact), cost(small)
    speed = f" The network collapsed there is {before.latency_ms / after.latency_ms:.2f} times as fast."
    text = _advice(deepest, within, retrained) + speed + ("" if deepest.method == GAP_FC else CONFIRM)
    return Recommendation(text, within, deepest.site, before.to_dict(), after.to_dict())


def check_within(within: float | None) -> None:
    """Complain of a loss that is no share.

    Raises:
        InputError: for one below 0 or above 1.
    """
    if within is not None and not 0 <= within <= 1:
        raise InputError(f"within={within}: give a share from 0 to 1; 0.01 is one point.")


def _advice(p: Point, within: float, retrained: bool) -> str:
    assert p.drop
    sure = f"95 % interval up to {100 * p.drop.high:.2f}"
    how = "trained so" if retrained else "without any retraining"
    measured = LABELS.get(p.method, p.method)
    return (
        f"Within a loss of {100 * within:.1f} points, the last {100 * p.depth_share:.0f} % of the convolutions need no "
        f"spatial information: {measured} from {p.site} on costs {100 * p.drop.mean:.2f} points ({sure}), {how}."
    )


def _nothing(judged: Sequence[Point], within: float, retrained: bool) -> str:
    least = min((p for p in judged if p.drop), key=lambda p: p.drop.mean if p.drop else 0.0)
    assert least.drop
    tail = (
        "" if retrained else " Training the collapsed network (whatwhere dependency --protocol study) may recover it."
    )
    return (
        f"No removal by {LABELS.get(least.method, least.method)} is sure to stay within a loss of {100 * within:.1f} "
        f"points: the mildest, from {least.site} on, costs {100 * least.drop.mean:.2f} points (95 % interval up to "
        f"{100 * least.drop.high:.2f}).{tail}"
    )
