"""An audit's result of numbers that are given, and a network with pictures that takes no time to audit."""

from __future__ import annotations

import torch
from torch import nn

import whatwhere as ww
from whatwhere.audits.result import AuditResult
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.hold.studies.readout_result import ReadoutResult, Row
from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import NeedResult, Point, Recommendation
from whatwhere.report.page import as_html

EVIL = "<script>alert(1)</script>"
SIZE = 8


def around(mean: float, half: float = 0.02) -> Estimate:
    return Estimate(mean, mean - half, mean + half, 0.0, 50, 1)


def need(drops: tuple[float, ...] = (0.0, 0.3, 0.5), site: str | None = None) -> NeedResult:
    """Shuffled from the last place on, the one before, ...: what it costs; a collapse costs half of that."""
    points = []
    for i, drop in enumerate(drops):
        share = (i + 1) / len(drops)
        points.append(Point("per-channel", f"s{i}", share, around(0.8 - drop), around(drop)))
        points.append(Point("gap_fc", f"s{i}", share, around(0.8 - drop / 2), around(drop / 2)))
    advice = Recommendation("Collapse it.", 0.01, site)
    intact = Point("intact", "", 0.0, around(0.8))
    return NeedResult("test-time", "net", {"name": "d"}, {}, {"reach": "from"}, (intact,), tuple(points), (), advice)


def row(network: str, site: str, spc: float) -> Row:
    return Row(network, "ridge", site, 0.5, 1, "H", "pictures", around(spc), around(0.2), 0, 0.25)


def hold(spc: float = 0.8, circular: float = 0.1) -> ReadoutResult:
    rows = [row(n, s, v) for s in ("s0", "s1") for n, v in (("network", spc), ("untrained", 0.9))]
    rows += [row("padding circular", s, circular) for s in ("s0", "s1")]
    return ReadoutResult("net", {"name": "d"}, {}, {}, tuple(rows), conclusion="said")


def audit(**parts: ww.hold.ReadoutResult | NeedResult) -> AuditResult:
    given = parts or {"need": need(), "hold": hold()}
    r50 = {"mean": 3.0, "low": 2.5, "high": 3.5, "spread": 0.0, "n": 4, "repeats": 1}
    return AuditResult(
        network="net",
        data={"name": "d"},
        preprocessing={},
        settings={"minutes": 5.0},
        sites=tuple(
            {"name": f"s{i}", "depth_share": (i + 1) / 3, "kind": "conv", "shape": [4, 8, 8]} for i in (2, 1, 0)
        ),
        parts={
            **{name: part.to_dict() for name, part in given.items()},
            "fields": {"fields": [{"site": "s0", "r50": r50}]},
            "check": {"known": [{"question": "q", "expected": "e", "found": "f", "right": True}]},
        },
        left_out={"say": "because"},
    )


def page(found: AuditResult) -> str:
    return as_html(found.report())


def network() -> ww.Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1, stride=2), nn.ReLU()]
        last = [nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
        return ww.Network(nn.Sequential(*layers, *last).eval(), name="small", input_size=(3, SIZE, SIZE))


def pictures(n: int = 40, labels: bool = True) -> Data:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (n, 3, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    known = torch.arange(n) % 2 if labels else torch.full((n,), -1)
    return Data("few", {"test": Split("test", Memory(images), known, ["a", "b"] if labels else ())})
