"""What a selection stands for: blocks, what holds them, layers that end branches, gates."""

from collections.abc import Sequence
from typing import Any

import pytest
from torchvision.models import mobilenet_v3_small

from small_nets import LIBRARIES, PAPERS, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.site_table import list_sites
from whatwhere.use.chosen import chosen_places
from whatwhere.use.places import Places


def chosen(net: Any, sites: Any, size: tuple[int, int, int] = SIZE, *, replace: bool = False) -> Sequence[str]:
    table = list_sites(net, input_size=size)
    places, _ = chosen_places(Places(flow_of(net, input_size=size), table), table, sites, replace)
    return [p.module for p in places]


@pytest.mark.parametrize(
    ("sites", "ends"),
    [
        (None, ["layer1.0.bn2", "layer2.0.bn2", "layer3.0.bn2", "layer4.0.bn2"]),
        ("layer2.0", ["layer2.0.bn2"]),
        ("layer2", ["layer2.0.bn2"]),
        ("layer[34]*", ["layer3.0.bn2", "layer4.0.bn2"]),
        (["layer4", "layer1.0"], ["layer1.0.bn2", "layer4.0.bn2"]),
        ("layer3:", ["layer3.0.bn2", "layer4.0.bn2"]),
        (lambda site: site.name == "layer2.0", ["layer2.0.bn2"]),
    ],
)
def test_blocks_by_every_kind_of_selection(sites: Any, ends: list[str]) -> None:
    assert chosen(drawn(PAPERS["resnet"]), sites) == ends


def test_a_module_is_a_selection() -> None:
    net = drawn(PAPERS["resnet"])
    assert chosen(net, net.layer3) == ["layer3.0.bn2"]
    assert chosen(net, [net.layer1, "layer4.0"]) == ["layer1.0.bn2", "layer4.0.bn2"]


def test_a_block_with_one_gate_is_not_chosen_by_the_layer_that_ends_it_and_one_with_two_is() -> None:
    vit = drawn(LIBRARIES["vit"])
    assert chosen(vit, "blocks.1.attn.proj") == ["blocks.1.attn.proj"]
    assert chosen(vit, ["blocks.1"]) == ["blocks.1.attn.proj", "blocks.1.mlp.fc2"]


def test_each_part_of_a_selection_must_stand_for_something() -> None:
    net = drawn(PAPERS["resnet"])
    with pytest.raises(InputError, match=r"sites='conv1' holds no residual block.*it adds and concatenates no maps"):
        chosen(net, ["layer1", "conv1"])
    with pytest.raises(InputError, match="layer9"):
        chosen(net, ["layer1", "layer9"])


def test_gates_are_places_too_where_they_are_replaced() -> None:
    net, size = drawn(lambda: mobilenet_v3_small(num_classes=5)), (3, 64, 64)
    assert chosen(net, "features.5", size, replace=True) == ["features.5.block.2"]
    assert chosen(net, "features.5", size) == ["features.5.block.3.1"]
