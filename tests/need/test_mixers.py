"""What mixes positions, against a slow count of which single positions reach each value."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from small_nets import HAND, drawn
from whatwhere.graph.flow import Flow, flow_of
from whatwhere.graph.mixing import Places
from whatwhere.maps import as_maps, from_maps
from whatwhere.need.mixers import mixers, named
from whatwhere.site import evaluating
from whatwhere.site_table import list_sites

SIZE = (3, 12, 10)


def found(net: nn.Module, site: str, size: tuple[int, int, int] = SIZE) -> tuple[str, ...]:
    table, flow = list_sites(net, input_size=size), flow_of(net, input_size=size)
    entry = flow.entering(table.select(site)[0])
    assert entry
    return named(flow, mixers(Places(flow, table), entry, {}))


class Around(nn.Module):
    """A part between two 1 x 1 convolutions."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.a, self.part, self.b = nn.Conv2d(3, 4, 1), part, nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.part(self.a(x)))


class By(nn.Module):
    """A part that is written as an operator."""

    def __init__(self, do: Any) -> None:
        super().__init__()
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        return self.do(x)


class Mixed(nn.Module):
    """A linear layer over positions, as in an MLP-Mixer."""

    def __init__(self) -> None:
        super().__init__()
        self.over = nn.Linear(120, 120)

    def forward(self, x: Tensor) -> Tensor:
        return self.over(x.flatten(2)).view_as(x)


class Attends(nn.Module):
    """Self-attention, written out."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        weights = (tokens @ tokens.transpose(1, 2)).softmax(-1)
        return x + (weights @ tokens).transpose(1, 2).view_as(x)


class Beside(nn.Module):
    """Branches that were pooled alike, and the map itself, come together: that mixes nothing more."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.avg_pool2d(x, 3, 1, 1), F.max_pool2d(x, 3, 1, 1)
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True)) + a * b


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 1:] + x[:, :, :-1]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (nn.BatchNorm2d(4), ()),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1, groups=2), nn.Dropout(), nn.Softmax(1)), ()),
        (nn.PixelShuffle(2), None),
        (nn.Upsample(scale_factor=2), ()),  # nearest
        (nn.Upsample(scale_factor=2, mode="bilinear"), ("part (Upsample)",)),
        (nn.MaxPool2d(2), ("part (MaxPool2d)",)),
        (nn.MaxPool2d(1, 2), ()),
        (nn.AvgPool2d(3, 1, 1), ("part (AvgPool2d)",)),
        (nn.ConvTranspose2d(4, 4, 2, 2), ()),
        (nn.ConvTranspose2d(4, 4, 3, 2), ("part (ConvTranspose2d)",)),
        (nn.GroupNorm(2, 4), ("part (GroupNorm)",)),
        (nn.InstanceNorm2d(4), ("part (InstanceNorm2d)",)),
        (nn.Conv2d(4, 4, 1, stride=2), ()),
        (nn.Conv2d(4, 4, (1, 3)), ("part (Conv2d)",)),
        (By(lambda x: F.max_pool2d(x, 3, 2)), ("part (max_pool2d)",)),
        (By(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)), ()),
        (By(lambda x: x.softmax(1)), ()),
        (By(lambda x: x.softmax(2)), ("part (softmax)",)),
        (Mixed(), ("part.over (Linear)",)),
        (Attends(), ("part (matmul, softmax)",)),
        (Beside(), ("part (avg_pool2d, max_pool2d, mean)",)),
        (Shifted(), ("part (add)",)),
        (nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1)), ("part.0 (AvgPool2d)", "part.1 (MaxPool2d)")),
    ],
)
def test_operators_that_mix_positions_are_named(part: nn.Module, expected: tuple[str, ...] | None) -> None:
    net = Around(part)
    if expected is None:
        net.b, expected = nn.Conv2d(1, 4, 1), ()
    assert set(found(net.eval(), "a")) == set(expected)


def test_pooling_a_map_and_reading_it_whole_are_named_wherever_they_are() -> None:
    head = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.Flatten(), nn.Linear(4 * 30, 5))
    assert found(head, "0") == ("1 (MaxPool2d)", "4 (Linear)")
    assert found(head, "2") == ("4 (Linear)",)


def slowly(flow: Flow, places: Places, entry: fx.Node) -> list[fx.Node]:
    """One position at a time: the sets of positions that reach each value, as they are."""
    maps = [n for n in flow.narrows[flow.narrows.index(entry) :] if n in places.at]
    left = []
    for start, end in zip(maps, [*maps[1:], flow.output], strict=True):
        reached: dict[fx.Node, list[Tensor]] = {}
        site = places.at[start][0]
        _, h, w = site.shape_in

        def step(node: fx.Node, value_of: Any, reached: Any = reached) -> Any:
            given = flow.step(node, value_of)
            reached.setdefault(node, []).append(given.isnan().flatten())
            return given

        for p in range(h * w):
            x = torch.rand(flow.shapes[start])
            blank = (torch.arange(h * w) == p).view(h, w)
            x = from_maps(as_maps(x, site).masked_fill(blank, torch.nan), x, site)
            reached.setdefault(start, []).append(x.isnan().flatten())
            with evaluating(flow.module):
                flow.run({start: x}, [end], step)
        sets = {n: {tuple(s) for s in torch.stack(r, 1).unique(dim=0).tolist()} for n, r in reached.items()}
        none = (False,) * (h * w)
        inside = [n for n in flow.nodes if n in sets and n is not start]
        left += [n for n in inside if sets[n] - set().union(*(sets.get(s, set()) for s in flow.sources[n])) - {none}]
    return left


@pytest.mark.parametrize("name", ["averaged", "flattened", "squeezed"])
def test_every_operator_of_small_networks_as_counted_slowly(name: str) -> None:
    net, size = drawn(HAND[name]), (3, 32, 32) if name == "flattened" else (3, 16, 16)
    table, flow = list_sites(net, input_size=size), flow_of(net, input_size=size)
    places = Places(flow, table)
    entry = flow.entering(table.cuts[-1])
    assert entry
    assert mixers(places, entry, {}) == slowly(flow, places, entry)


def test_what_takes_a_nodes_place_is_tried_in_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    table, flow = list_sites(net, input_size=SIZE), flow_of(net, input_size=SIZE)
    places, entry = Places(flow, table), flow.entering(table[0])
    assert entry
    first, last = (n for n in flow.nodes if n.target in ("0", "2"))
    assert mixers(places, entry, {}) == [first, last]
    assert mixers(places, entry, {first: nn.Conv2d(3, 4, 1)}) == [last]
