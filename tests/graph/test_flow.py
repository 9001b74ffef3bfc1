"""What goes round what, against an independent look: force a value in the running network, and see what still varies."""

import pytest
import torch
from torch import Tensor, nn

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, Forked, drawn, holds_all_that_follows
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.layers import map_in, with_map
from whatwhere.site import Site
from whatwhere.site_table import list_sites

WITH_SITES = {k: f for k, f in {**HAND, **PAPERS, **LIBRARIES}.items() if k != "functional"}


def forced(net: nn.Module, site: Site, x: Tensor, value: Tensor | None) -> tuple[Tensor, Tensor]:
    """The output where the map that enters a site is another, and the map that entered, by hooks alone."""
    seen: list[Tensor] = []
    calls = 0

    def hook(m, args, kwargs):
        nonlocal calls
        calls += 1
        if calls != site.call:
            return None
        seen.append(map_in(args, kwargs).clone())
        return None if value is None else with_map(args, kwargs, value.clone())

    handle = net.get_submodule(site.module).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        with torch.no_grad():
            return net(x), seen[0]
    finally:
        handle.remove()


@pytest.mark.parametrize("name", WITH_SITES)
def test_nothing_goes_round_a_narrow_and_something_round_all_else(name: str) -> None:
    net = drawn(WITH_SITES[name])
    flow, table = flow_of(net, input_size=SIZE), list_sites(net, input_size=SIZE)
    a, b = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    tried = [s for s in table if s.name == s.module and holds_all_that_follows(flow, s)]
    assert len(tried) >= 2
    for site in tried:
        plain, value = forced(net, site, a, None)
        still, _ = forced(net, site, b, value)
        assert torch.equal(still, plain) == (flow.entering(site) in flow.narrows), site.name


@pytest.mark.parametrize("name", ["averaged", "squeezed", "densenet", "swin"])
def test_regions_lie_end_to_end_and_run_by_themselves(name: str) -> None:
    net = drawn(WITH_SITES[name])
    flow = flow_of(net, input_size=SIZE)
    assert flow.regions[0].entry is flow.picture
    assert flow.regions[-1].exit is flow.output
    assert [r.exit for r in flow.regions[:-1]] == [r.entry for r in flow.regions[1:]]
    value: Tensor = torch.randn(2, *SIZE)
    with torch.no_grad():
        expected = net(value.clone())
        for region in flow.regions:
            value = flow.run({region.entry: value}, [region.exit])[region.exit]
    assert torch.allclose(value, expected, atol=1e-6)


def test_a_residual_addition_is_a_narrow_and_its_branch_is_not() -> None:
    flow = flow_of(drawn(lambda: nn.Sequential(Forked(3), nn.Conv2d(3, 2, 1))), input_size=SIZE)
    assert [n.name for n in flow.narrows] == ["input_1", "add", "relu_1", "_1", "output"]
    (block,) = [r for r in flow.regions if r.exit.name == "add"]
    assert [n.name for n in block.inside] == ["_0_first", "relu", "_0_second", "_0_skip", "add"]
    assert set(flow.owners(block.inside[0])) >= {"0", "0.first"}


class Touched(nn.Module):
    """The shortcut reads what was changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.act, self.b = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(self.act(x)) + x


def test_a_value_changed_in_place_is_that_of_who_changed_it() -> None:
    flow = flow_of(drawn(Touched), input_size=SIZE)
    add = flow.regions[-2].exit
    assert [n.name for n in flow.sources[add]] == ["b", "act"]
    assert "act" in [n.name for n in flow.narrows]
    (site,) = [s for s in list_sites(drawn(Touched), input_size=SIZE) if s.name == "b"]
    assert flow.entering(site).name == "act"  # type: ignore[union-attr]


def test_values_are_not_changed_by_a_run() -> None:
    flow = flow_of(drawn(Touched), input_size=SIZE)
    a = next(n for n in flow.nodes if n.name == "a")
    given = torch.randn(2, 3, 32, 32)
    kept = given.clone()
    flow.run({a: given}, [flow.output])
    assert torch.equal(given, kept)
    assert flow.after(a) == set(flow.nodes) - {flow.picture, a}


def test_calls_are_those_whose_value_a_node_is_innermost_first() -> None:
    flow = flow_of(drawn(lambda: nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), Touched())), input_size=SIZE)
    conv, add = (next(n for n in flow.nodes if n.name == name) for name in ("_0_0", "add"))
    assert [(c.module, c.number, c.entry) for c in flow.calls[conv]] == [
        ("0.0", 1, flow.picture),
        ("0", 1, flow.picture),
    ]
    assert [(c.module, c.number, c.entry) for c in flow.calls[add]] == [("1", 1, conv)]


def test_what_leads_from_nodes_to_another() -> None:
    flow = flow_of(drawn(lambda: nn.Sequential(Forked(3), nn.Conv2d(3, 2, 1))), input_size=SIZE)
    node = {n.name: n for n in flow.nodes}
    assert [n.name for n in flow.leading([flow.picture], node["_0_second"])] == ["_0_first", "relu", "_0_second"]
    assert [n.name for n in flow.leading([flow.picture, node["_0_second"]], node["add"])] == ["_0_skip", "add"]


class AsksEarly(nn.Module):
    """Asks a map for its size, behind so many paths that nobody could walk them all, and reshapes by it later."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(60):
            x = x + x.relu()
        n, c, h, w = x.shape
        return (x.tanh() + 1).reshape(n, c, h * w)


def test_a_size_from_before_the_place_is_found_without_walking_every_path() -> None:
    flow = flow_of(AsksEarly().eval(), input_size=(2, 3, 4))
    x = torch.randn(2, 2, 3, 4)
    (place,) = [n for n in flow.nodes if n.name == "tanh"]
    assert torch.equal(flow.run({place: x}, [flow.output])[flow.output], (x + 1).flatten(2))


class WrittenInto(nn.Module):
    """A map is written into zeros, twice, which are not of the picture."""

    def forward(self, x: Tensor) -> Tensor:
        wide = torch.zeros(x.shape)
        wide[:, :, 1:, 1:] += x[:, :, 1:, :-1]
        wide[:, :, :1] = 7
        return torch.relu(wide) * 2


def test_what_is_written_into_follows_from_what_is_written() -> None:
    net = WrittenInto()
    flow = flow_of(net, input_size=(3, 6, 5))
    last = flow.nodes[-2]
    assert flow.picture in flow.before(last)
    for seed in (1, 2, 1):  # nothing is left of the picture before
        x = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(flow.run({flow.picture: x}, [last])[last], net(x))


def test_what_is_written_into_a_tensor_that_is_no_part_of_the_graph_is_refused() -> None:
    class Unseen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wide = torch.zeros(2, 3, 8, 7)
            wide[:, :, 1:-1, 1:-1] = x
            return torch.relu(wide) * 2

    with pytest.raises(
        InputError, match=r"writes what it computes into a tensor.*make that of the map, by x.new_zeros"
    ):
        flow_of(Unseen(), input_size=(3, 6, 5))


def test_a_value_that_was_changed_in_place_can_be_given() -> None:
    class Added(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.empty_like(x)
            torch.add(x, 1, out=y)
            z = y * 2
            y += 3
            return y * z.mean()

    flow = flow_of(Added(), input_size=(3, 6, 5))
    added = next(n for n in flow.nodes if n.name == "add")
    value = torch.randn(2, 3, 6, 5)
    given = flow.run({added: value}, [flow.output])[flow.output]
    assert torch.equal(given, (value + 3) * (value * 2).mean())
    assert [n.name for n in flow.sources[flow.output]] == ["mul_1"]


class Crossed(nn.Module):
    """A block between two skips, one of which reads what enters the block; and two paths that meet twice."""

    def forward(self, x: Tensor) -> Tensor:
        a = x + 1
        b = a.relu() + a.sigmoid()
        c, d = b.cos(), b.sin()
        return torch.cat([c + d, c * d, a], 1)


def test_the_parts_around_a_node_are_those_that_one_value_enters_and_one_leaves() -> None:
    flow = flow_of(Crossed(), input_size=SIZE)
    around = {n.name: [(r.entry.name, r.exit.name) for r in flow.around(n)] for n in flow.nodes}
    assert around["relu"] == [("add", "add_1"), ("add", "cat")]
    assert around["cos"] == [("add", "cat")]  # its paths meet in two places, and neither is all that leaves
    assert around["x"] == []


def test_memory_that_is_only_reserved_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.empty_like holds whatever was there before, NaN say; a network writes into it before it reads."""

    class Reserving(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = torch.empty_like(x)
            torch.add(x, 1.0, out=y)
            return y

    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # fills what is reserved with NaN
    try:
        assert torch.empty_like(torch.zeros(3)).isnan().all()
        flow = flow_of(Reserving(), input_size=(3, 8, 8))
        (reserved,) = [n for n in flow.nodes if "empty_like" in str(n.target)]
        (entry,) = [n for n in flow.nodes if n.op == "placeholder"]
        assert (flow.run({entry: torch.ones(1, 3, 8, 8)}, [reserved])[reserved] == 0).all()
    finally:
        torch.use_deterministic_algorithms(before)
