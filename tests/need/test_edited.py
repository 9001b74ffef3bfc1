"""What every surgery from a place on asks of a graph."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from small_nets import HAND, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.graph.rewrite import rewritten
from whatwhere.need.edited import (
    EditedGraph,
    check_open,
    check_options,
    free,
    is_map,
    modules_after,
    nodes_after,
    place,
    places_near,
    redraw,
)
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied


def edited(net: nn.Module, site: str) -> EditedGraph:
    original, start = flow_of(net, input_size=SIZE), list_sites(net, input_size=SIZE).select(site)[0]
    return EditedGraph(flow_of(copied(net), input_size=SIZE), original, start)


class Called(nn.Module):
    """Calls F.conv2d in two ways, with a kernel that it makes, and one of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.w = nn.Parameter(torch.randn(4, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(self.a(x), 2 * self.w, None, (2, 1), padding=1)
        y = F.conv2d(input=self.b(y), weight=self.w, stride=y.shape[3] // 16)
        return F.conv2d(y, y.mean((0, 2, 3)).view(1, 4, 1, 1))


def test_arguments_of_a_convolution_by_name_and_value() -> None:
    net = drawn(Called)
    graph = edited(net, "a")
    first, second, last = (n for n in graph.flow.nodes if n.target is F.conv2d)
    one, two = graph.convolution_of(first), graph.convolution_of(second)
    assert torch.equal(one["weight"], 2 * net.w)  # type: ignore[operator]
    assert (one["input"].target, one["bias"], one["stride"], one["padding"]) == ("a", None, (2, 1), 1)
    assert (two["input"].target, two["stride"]) == ("b", 2)
    with pytest.raises(InputError, match=f"the kernel of {last.name} depends on the picture"):
        graph.convolution_of(last)


def test_what_is_not_read_any_more_goes_and_all_else_stays() -> None:
    net = drawn(Called)
    graph = edited(net, "a")
    first = next(n for n in graph.flow.nodes if n.target is F.conv2d)
    first.replace_all_uses_with(first.args[0])  # type: ignore[arg-type]
    graph.flow.graph.erase_node(first)
    graph.erase_unread()
    names = [n.name for n in graph.flow.graph.nodes]
    assert "mul" not in names
    assert {"x", "a", "w", "b", "output"} <= set(names)
    x = torch.randn(2, *SIZE)
    assert rewritten(graph.flow.module, graph.flow.graph)(x).shape[0] == 2


def test_a_module_before_and_behind_is_refused() -> None:
    graph = edited(drawn(HAND["squeezed"]), "last#2")
    shared = next(n for n in graph.flow.nodes if n.target == "last")
    with pytest.raises(InputError, match="last runs both before and after it; choose"):
        graph.refuse_shared(shared)
    early = edited(drawn(HAND["squeezed"]), "wide")
    early.refuse_shared(next(n for n in early.flow.nodes if n.target == "last"))
    assert early.later == early.flow.after(early.entry)


def test_only_what_asks_for_its_size_is_held_to_it() -> None:
    for name, held in (("squeezed", True), ("averaged", False)):
        graph = edited(drawn(HAND[name]), {"squeezed": "wide", "averaged": "block"}[name])
        graph.keep_to_size("made", "make it")
        new: Any = rewritten(graph.flow.module, graph.flow.graph)
        assert hasattr(new, "size") == held
        assert new(torch.randn(1, *SIZE)).shape == (1, 5)


def test_a_place_that_something_goes_round_and_places_near_it() -> None:
    net = drawn(HAND["averaged"])
    table, flow = list_sites(net, input_size=SIZE), flow_of(net, input_size=SIZE)
    inside = table.select("block.second")[0]
    with pytest.raises(InputError, match="spatial information flows around it"):
        check_open(flow, inside)
    check_open(flow, table.select("block")[0])
    assert places_near(table, inside) == "Nothing goes round stem, block, down: give one of these."
    one = nn.Sequential(nn.Conv2d(3, 4, 3))
    alone = list_sites(one, input_size=SIZE)
    assert places_near(alone, alone[0]) == "Nothing else can be cut at."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("x", 0, None), "init='x': choose"),
        (("fresh", 1.0, None), "seed=1.0: give"),
        (("fresh", True, None), "seed=True: give"),
        (("kernel-sum", 0, (3, 0, 4)), r"input_size=\(3, 0, 4\): give"),
    ],
)
def test_options_that_cannot_be(options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_options(*options)
    check_options("fresh", 3, (3, 32, 32))


def test_convolutions_of_some_modules_are_drawn_anew() -> None:
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Sequential(nn.Conv2d(64, 200, 3), nn.BatchNorm2d(200)))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    redraw(net, ["1"], 3)
    assert {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])} == {"1.0.weight", "1.0.bias"}
    assert float(net[1][0].weight.detach().std()) == pytest.approx((2 / (200 * 9)) ** 0.5, rel=0.02)  # type: ignore[index,union-attr]


def test_nodes_and_names() -> None:
    graph = edited(drawn(HAND["averaged"]), "block")
    flow = graph.flow
    assert modules_after(flow.graph, graph.entry)[0] == "block.first"
    assert nodes_after(flow.graph, flow.output) == []
    assert free(flow.module, "stem") == "stem_"
    assert free(flow.module, "other") == "other"
    add = next(n for n in flow.nodes if n.name == "add")
    assert (place(flow, add), place(flow, graph.entry)) == ("add in block", "stem")
    assert [is_map(s) for s in ((2, 3, 4, 4), (2, 3, 1, 1), (2, 3))] == [True, False, False]
