"""A finished study of networks trained without spatial information, of numbers that are given."""

from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import NeedResult, Point


def estimate(mean: float) -> Estimate:
    return Estimate(mean, max(mean - 0.01, -1.0), min(mean + 0.01, 1.0), 0.0, 100, 1)


def found(intact: float, collapsed: float) -> NeedResult:
    """A study whose deepest collapse leaves some accuracy."""
    points = [Point("intact", "", 0.0, estimate(intact))]
    for share, left in ((0.62, intact), (0.88, collapsed)):
        points.append(Point("gap_fc", f"s{share}", share, estimate(left), estimate(intact - left)))
    return NeedResult("train-and-test", "net", {"name": "x"}, {}, {}, (points[0],), tuple(points[1:]))
