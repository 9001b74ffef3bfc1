"""What goes round: if it is pooled as well, positions at the cut do not matter to the output."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, Forked, drawn, holds_all_that_follows
from whatwhere.graph.around import ways_round
from whatwhere.layers import map_in, with_map
from whatwhere.maps import as_maps, from_maps
from whatwhere.need.averaging import pool
from whatwhere.need.branch import SharedPrefix
from whatwhere.need.leftover import left_over
from whatwhere.need.shuffling import shuffle
from whatwhere.site import Site
from whatwhere.site_table import list_sites

NETS = {k: f for k, f in {**HAND, **PAPERS, **LIBRARIES}.items() if k != "functional"}


def permuted_at(net: nn.Module, site: Site) -> Any:
    """A hook that gives the positions of the map that enters a site another order."""
    _, h, w = site.shape_in
    order = torch.randperm(h * w, generator=torch.Generator().manual_seed(4))
    calls = 0

    def hook(m: nn.Module, args: Any, kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != site.call:
            return None
        x: Any = map_in(args, kwargs)
        maps = as_maps(x, site)
        return with_map(args, kwargs, from_maps(maps.flatten(2)[..., order].view_as(maps), x, site))

    return net.get_submodule(site.module).register_forward_pre_hook(hook, with_kwargs=True)


@pytest.mark.parametrize("name", NETS)
def test_from_a_cut_on_no_position_at_the_cut_matters(name: str) -> None:
    net = drawn(NETS[name])
    table = list_sites(net, input_size=SIZE)
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))
    cuts = [c for c in table.cuts if holds_all_that_follows(table.dataflow.flow, c)]
    assert cuts
    for cut in cuts[:: max(1, len(cuts) // 4)]:
        scores = []
        for moved in (False, True):
            handle = permuted_at(net, cut) if moved else None
            with torch.no_grad(), pool(net, f"{cut.name}:", table=table):
                scores.append(net(x))
            if handle:
                handle.remove()
        apart = float((scores[0] - scores[1]).abs().max()) / float(scores[0].abs().max())
        assert apart < 1e-4, (cut.name, apart)


@pytest.mark.parametrize("name", ["resnet", "bottlenecks"])
def test_the_papers_blocks_are_changed_as_the_authors_do(name: str) -> None:
    net = drawn(PAPERS[name])
    table = list_sites(net, input_size=(3, 64, 64))
    ways = ways_round(table.dataflow, [s for s in table if s.is_spatial_conv])
    assert [w.block.name for w in ways.shortcuts] == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert [w.branches for w in ways.shortcuts] == [(f"layer{i}.0.conv1",) for i in (1, 2, 3, 4)]
    assert not ways.inputs
    assert not ways.open


def test_a_shortcut_by_an_operator_is_found_and_its_branch_left_alone() -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Forked(4), Forked(4, 2)))
    table = list_sites(net, input_size=SIZE)
    ways = ways_round(table.dataflow, [s for s in table if s.is_spatial_conv])
    assert [(w.block.name, w.branches) for w in ways.shortcuts] == [("1", ("1.first",)), ("2", ("2.first",))]


class Normed(nn.Module):
    """A projection that begins behind the branch's norm (pre-activation)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3, padding=1)
        self.project = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.conv(y.relu()) + self.project(y)


def test_a_way_round_that_begins_further_in_is_an_input_there() -> None:
    net = drawn(lambda: nn.Sequential(Normed(), nn.Conv2d(3, 2, 1)))
    table = list_sites(net, input_size=SIZE)
    ways = ways_round(table.dataflow, [s for s in table if s.is_spatial_conv])
    assert ([w.block.name for w in ways.shortcuts], [s.name for s in ways.inputs]) == ([], ["0.project"])
    assert shuffle(net, table=table).matched == ("0.conv", "0.project")


class Parts(nn.Module):
    """A block of Res2Net: parts of a map take turns, and the last of them goes on as it is, or pooled."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.into, self.out = nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1)
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))
        self.relu, self.pool = nn.ReLU(), nn.AvgPool2d(3, 1, 1) if first else None

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(self.relu(self.into(x)), 2, 1)
        one = self.convs[0](parts[0])
        two = self.convs[1](one + parts[1])
        last = parts[2] if self.pool is None else self.pool(parts[2])
        return self.relu(self.out(torch.cat([one, two, last], 1)) + x)


class Kept(nn.Module):
    """As in DLA: what enters the second block is concatenated again behind it, in no block."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.root = Forked(3), Forked(3), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.root(torch.cat([self.two(x), x], 1))


def shared() -> nn.Module:
    """Two such blocks with one activation, whose calls are counted whether or not what holds them is run again."""
    net = nn.Sequential(nn.Conv2d(3, 6, 1), Parts(False), Parts(False), nn.Conv2d(6, 2, 1))
    net[2].relu = net[1].relu
    return net


@pytest.mark.parametrize(
    ("make", "cut", "outputs"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 1), Parts(False), nn.Conv2d(6, 2, 1)), "1", ["1.relu#1 (output)"]),
        (shared, "2", ["1.relu#3 (output)"]),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 1), Parts(True), nn.Conv2d(6, 2, 1)), "1", []),
        (lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Kept(), nn.Conv2d(6, 2, 1)), "1.two", ["1.one (output)"]),
    ],
)
def test_parts_that_pass_by_operators_are_changed_where_they_are_made(make: Any, cut: str, outputs: list[str]) -> None:
    net = drawn(make)
    table, x = list_sites(net, input_size=SIZE), torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))
    (site,) = [s for s in table if s.name == cut]
    acts = pool(net, f"{cut}:", table=table)
    assert [name for name in acts.matched if name.endswith("(output)")] == outputs
    assert left_over(net, site, table) < 1e-4
    resumed = []

    def at_cut(resume: Any) -> None:
        with acts:
            resumed.append(resume())

    with torch.no_grad(), SharedPrefix(net) as run:
        run(x, {site: at_cut})
    with torch.no_grad(), acts:
        assert torch.equal(net(x), resumed[0])


def test_without_the_first_convolution_a_block_is_left_alone() -> None:
    net = drawn(lambda: nn.Sequential(Forked(3), nn.Conv2d(3, 2, 1)))
    table = list_sites(net, input_size=SIZE)
    assert ways_round(table.dataflow, [s for s in table if s.name == "0.second"]).shortcuts == ()


class Skips(nn.Module):
    """A U-Net of residual blocks: two skips go round what is deep, and what enters a block is kept for later."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 1, 1)
        self.one, self.two, self.three = Forked(4), Forked(4, 2), Forked(4)
        self.late, self.head = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        two = self.two(self.one(self.pool(x)))
        late = self.late(torch.cat([self.three(two), two], 1))
        return self.head(torch.cat([nn.functional.interpolate(late, scale_factor=2.0), x], 1))


@pytest.mark.parametrize(
    ("chosen", "convolutions"),
    [("three", ["three.first", "three.second"]), ("two", ["two.first", "two.second"]), ("late", ["late"])],
)
def test_what_is_chosen_between_skips_is_changed_and_nothing_before_or_beside_it(
    chosen: str, convolutions: list[str]
) -> None:
    net = drawn(Skips)
    table = list_sites(net, input_size=SIZE)
    (site,) = [s for s in table if s.name == chosen]
    acts, block = pool(net, chosen, table=table), [] if chosen == "late" else [chosen]
    assert list(acts.matched) == [*convolutions, *block]
    x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(1))
    entered: list[Tensor] = []
    kept = net.get_submodule(chosen).register_forward_pre_hook(lambda _, args: entered.append(args[0].clone()))
    with torch.no_grad():
        intact = net(x)
        with acts:
            once = net(x)
        kept.remove()
        moved = permuted_at(net, site)
        with acts:
            again = net(x)
        moved.remove()
    assert torch.equal(entered[0], entered[1])  # what comes before is as it was
    assert not torch.allclose(once, intact, rtol=1e-2)
    assert torch.allclose(once, again, rtol=1e-4, atol=1e-6)  # and no position matters in there


def test_from_a_block_on_the_blocks_behind_it_lose_their_shortcuts_too() -> None:
    net = drawn(Skips)
    table = list_sites(net, input_size=SIZE)
    acts = shuffle(net, "two:", table=table)
    every = ["two.first", "two.second", "three.first", "three.second", "late", "head"]
    assert list(acts.matched) == [*every, "two", "three"]
