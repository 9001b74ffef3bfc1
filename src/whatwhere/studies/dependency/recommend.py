"""From a curve to advice: the deepest removal that costs no more than a stated loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from whatwhere.cost import cost
from whatwhere.errors import InputError
from whatwhere.network import Network
from whatwhere.studies.dependency.result import LABELS, Point, Recommendation

GAP_FC = "gap_fc"
CONFIRM = " This was measured by shuffling: train the collapsed network to confirm it."


def recommend(
    points: Sequence[Point], within: float, intact: Network, collapsed: Callable[[str], Network], *, retrained: bool
) -> Recommendation:
    """The deepest removal whose loss is within what is allowed.

    A removal counts as within the loss when the upper end of its 95 % interval is. Only GAP+FC makes a network smaller,
    so its points are judged where there are any, else those of the first method, and the text says so.

    Args:
        points: one group's removals.
        within: the loss allowed, in [0, 1].
        intact: the network, to measure.
        collapsed: builds the network collapsed before a site, to measure.
        retrained: whether the removals were trained (or are test-time removals from a network trained with space).
    """
    judged = [p for p in points if p.method == GAP_FC] or [p for p in points if p.method == points[0].method]
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
        f"No removal stays within a loss of {100 * within:.1f} points: the mildest, "
        f"{LABELS.get(least.method, least.method)} from {least.site} on, costs {100 * least.drop.mean:.2f} "
        f"points.{tail}"
    )
