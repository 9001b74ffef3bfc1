"""Where gates stand: by the names of the layers that end branches, in networks of every make."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from timm.layers.create_attn import get_attn
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small

from small_nets import HAND, LIBRARIES, PAPERS, SIZE, Forked, drawn
from whatwhere.graph.flow import flow_of
from whatwhere.site_table import list_sites
from whatwhere.use.places import Place, Places


def places_of(make_net: Callable[[], nn.Module], size: tuple[int, int, int] = SIZE) -> Places:
    net = drawn(make_net)
    return Places(flow_of(net, input_size=size), list_sites(net, input_size=size))


def names(places: tuple[Place, ...]) -> list[str]:
    return [p.module for p in places]


ENDS = {
    "averaged": ["block.second", "down.second"],
    "shortcut": ["bn3"],
    "flattened": [],
    "squeezed": ["wide"],
    "resnet": [f"layer{i}.0.bn2" for i in range(1, 5)],
    "bottlenecks": [f"layer{i}.0.bn3" for i in range(1, 5)],
    "densenet": [f"features.denseblock{i}.denselayer{j}.conv2" for i in (1, 2) for j in (1, 2)],
    "preact": [f"stages.{i}.blocks.0.conv3" for i in range(4)],
    "byobnet": ["stages.0.0.conv2_1x1.bn", "stages.1.0.attn_last", "stages.2.0.attn_last", "stages.3.0.conv3_1x1.bn"],
    "nfnet": [f"stages.{i}.0.attn_last" for i in range(4)],
    "convnext": [f"stages.{i}.blocks.{j}.mlp.fc2" for i, n in enumerate((1, 2, 4, 2)) for j in range(n)],
    "vit": [f"blocks.{i}.{n}" for i in range(6) for n in ("attn.proj", "mlp.fc2")],
    "swin": [f"features.{i}.{j}.{n}" for i, j in ((1, 0), (3, 0)) for n in ("attn", "mlp.3")],
}


@pytest.mark.parametrize("name", ENDS)
def test_gates_stand_behind_the_last_layer_of_a_branch(name: str) -> None:
    assert names(places_of({**HAND, **PAPERS, **LIBRARIES}[name]).at_ends) == ENDS[name]


def test_what_a_place_says_of_its_map() -> None:
    (place, *_) = places_of(LIBRARIES["vit"]).at_ends
    assert (place.block, place.channels, place.at.layout, place.at.shape_in) == ("blocks.0", 64, "tokens+1", (64, 2, 2))


class Ended(nn.Module):
    """A branch that ends as is said."""

    def __init__(self, end: Callable[["Ended", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.drop, self.scale = nn.Dropout(0.1), nn.Parameter(torch.full((4, 1, 1), 0.1))
        self.fc, self.up = nn.Linear(4, 4), nn.Upsample(scale_factor=2)
        self.own, self.se = nn.Conv2d(4, 4, 1), get_attn("se")(4, rd_channels=2)
        self.wide, self.tokens = nn.Conv2d(4, 8, 1), nn.Linear(1024, 1024)
        self.end = end

    def forward(self, x: Tensor) -> Tensor:
        return x + self.end(self, self.act(self.conv(x)))


def gated(m: Ended, x: Tensor) -> Tensor:
    y = m.norm(x)
    return y * torch.sigmoid(m.own(y.mean((2, 3), keepdim=True)))


MODULES = {
    "a norm": (lambda m, x: m.norm(x), "1.norm"),
    "behind it what lets it pass": (lambda m, x: m.drop(m.norm(x) * m.scale) * 0.5, "1.norm"),
    "a function of single numbers": (lambda m, x: F.gelu(m.norm(x)), "1.norm"),
    "the other layout": (lambda m, x: m.fc(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), "1.fc"),
    "an upsampling": (lambda m, x: m.up(F.avg_pool2d(m.norm(x), 2)), "1.up"),
    "an activation that others use": (lambda m, x: m.act(m.norm(x)), "1.norm"),
    "nothing but what lets pass": (lambda m, x: m.drop(F.conv2d(x, m.own.weight)), "1.drop"),
    "a gate as a module": (lambda m, x: m.se(m.norm(x)), "1.se"),
    "a gate between modules": (gated, "1.norm"),
    "a part of a map": (lambda m, x: m.wide(x)[:, :4], "1.wide"),
}


@pytest.mark.parametrize("name", MODULES)
def test_what_ends_a_branch(name: str) -> None:
    end, expected = MODULES[name]
    places = places_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Ended(end)))
    assert names(places.at_ends) == [expected]
    assert not places.left_out


NOWHERE = {
    "functions": (lambda m, x: F.conv2d(x, m.own.weight), r"it ends in functions \(conv2d\), and no module gives"),
    "a pool": (lambda m, x: F.interpolate(m.norm(x)[:, :, ::2, ::2], scale_factor=2), r"\(interpolate\)"),
    "a layer that runs elsewhere": (lambda m, x: m.own(m.norm(m.own(x))), "own, which ends it, runs elsewhere too"),
    "channels before tokens": (
        lambda m, x: m.tokens(x.flatten(2)).unflatten(2, x.shape[2:]),
        "what 1.tokens gives is no map",
    ),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_where_there_is_no_place_it_is_said_why(name: str) -> None:
    end, why = NOWHERE[name]
    places = places_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Ended(end)))
    assert not places.at_ends
    assert re.search(why, places.left_out["1"])


def test_what_is_read_elsewhere_too_is_left_out() -> None:
    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(F.relu(x))
            return self.out(torch.cat([F.relu(x + y), y], 1))

    places = places_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Read()))
    assert places.left_out["1"] == "what it adds is read elsewhere too"


def test_a_block_that_runs_twice_has_one_place_for_both() -> None:
    block = Forked(4)
    (place,) = places_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), block, nn.ReLU(), block)).at_ends
    assert (place.module, len(place.nodes)) == ("1.second", 2)


def test_gates_are_replaced_where_they_are_and_other_branches_get_one_at_their_end() -> None:
    places = places_of(lambda: mobilenet_v3_small(num_classes=5), (3, 64, 64))
    gates, ends = names(places.own_gates), names(places.at_ends)
    assert (len(gates), len(ends)) == (9, 6)
    both = names(places.with_gates_replaced)
    assert both == ["features.1.block.1", "features.3.block.2.1", *gates[1:]]  # one of the six has none
    assert all(p.gate for p in places.own_gates)
    assert {places.name_of(g) for g in places.gates} == set(gates)


def test_a_gate_between_modules_bears_the_name_of_its_block() -> None:
    places = places_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Ended(gated)))
    assert [places.name_of(g) for g in places.gates] == ["1"]
    (gate,) = places.own_gates
    assert (gate.module, gate.owner, gate.block, gate.channels) == ("1.recalibration", "1", "1", 4)
    assert gate.is_between
    assert not places.fixed_gates
    assert names(places.with_gates_replaced) == ["1.recalibration"]


def test_a_gate_that_runs_twice_is_fixed() -> None:
    se = get_attn("se")(4, rd_channels=2)
    places = places_of(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), se, nn.Conv2d(4, 4, 1), se))
    assert not places.own_gates
    assert set(places.fixed_gates.values()) == {"it runs 2 times"}
