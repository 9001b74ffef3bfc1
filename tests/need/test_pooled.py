"""Collapsed networks of every make against an oracle that knows no graph, and on pictures that share a mean."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from borderless_oracle import borderless
from small_choice import some
from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn, holds_all_that_follows
from whatwhere.errors import InputError
from whatwhere.graph.flow import flow_of
from whatwhere.need.gap_fc import collapse
from whatwhere.need.pooled import constant_at, weights_used
from whatwhere.site_table import list_sites

NETS = {k: f for k, f in {**HAND, **PAPERS, **LIBRARIES}.items() if k != "functional"}
REFUSED = {
    ("vit", "patch_embed.proj"): "cannot work on one position",
}


@pytest.mark.parametrize("name", some(NETS))
def test_it_does_what_the_network_does_to_a_constant_map_without_borders(name: str) -> None:
    net = drawn(NETS[name])
    cuts, flow, compared = list_sites(net, input_size=SIZE).cuts, flow_of(net, input_size=SIZE), 0
    for cut in cuts[:: max(1, len(cuts) // 4)]:
        if (name, cut.name) in REFUSED:
            continue
        small: Any = collapse(net, cut.name, input_size=SIZE)
        x = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            seen = small(x)
        # One pooled token weighs otherwise than many equal ones; hooks on a site reach those who read its map in it.
        if cut.layout != "tokens+1" and holds_all_that_follows(flow, cut):
            compared += 1
            expected, _ = borderless(net, cut, x)
            assert float((seen - expected).abs().max()) < 1e-4 * float(expected.abs().max()), cut.name
    assert compared or name == "vit"


@pytest.mark.parametrize("name", NETS)
def test_two_pictures_with_one_pooled_value_have_one_output(name: str) -> None:
    """What enters the pool is another map with the same mean: nothing else reaches the output."""
    net = drawn(NETS[name])
    cuts = list_sites(net, input_size=SIZE).cuts
    cut = cuts[len(cuts) // 2]
    small: Any = collapse(net, cut.name, input_size=SIZE)
    a, b = torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(6))
    kept: list[Tensor] = []

    def first_value(m: nn.Module, args: Any, out: Tensor) -> Tensor:
        kept.append(out)
        return kept[0]

    small.get_submodule(small.pooled_by).register_forward_hook(first_value)
    with torch.no_grad():
        assert torch.equal(small(a), small(b))
    assert not torch.equal(kept[0], kept[1])


@pytest.mark.parametrize(("name", "site"), REFUSED)
def test_what_cannot_be_is_refused_with_its_reason(name: str, site: str) -> None:
    with pytest.raises(InputError, match=f"site='{site}'.*{REFUSED[name, site]}"):
        collapse(drawn(NETS[name]), site, input_size=SIZE)


def test_it_trains_is_copied_and_runs_on_batches_of_any_size() -> None:
    net = drawn(NETS["efficientnet"])
    small: Any = collapse(net, list_sites(net, input_size=SIZE).cuts[2].name, input_size=SIZE)
    twin = copy.deepcopy(small)
    assert str(twin.surgery) == str(small.surgery)
    small.train()
    small(torch.randn(3, *SIZE)).square().mean().backward()
    assert all(p.grad is not None for p in small.parameters())
    with torch.no_grad():
        assert twin(torch.randn(5, *SIZE)).shape == (5, 5)
    names = set(net.state_dict())
    assert set(small.state_dict()) <= names


def test_state_dict_names_are_those_of_the_network() -> None:
    net = drawn(PAPERS["resnet"])
    small: Any = collapse(net, "layer2.0", input_size=SIZE)
    assert set(small.state_dict()) == set(net.state_dict())


class Read(nn.Module):
    """Flattens maps of channels last, and reads them with a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(self.conv(x).relu(), 2)
        return self.fc(y.permute(0, 2, 3, 1).reshape(len(y), -1))


def test_columns_of_a_flattened_map_are_found_in_any_order() -> None:
    net, x = drawn(Read), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        v = F.relu(F.linear(x.mean((2, 3)), net.conv.weight.sum((2, 3)), net.conv.bias))  # type: ignore[union-attr,operator]
        expected = net.fc(v.repeat(1, 16))  # type: ignore[operator]
        small = collapse(net, "conv", input_size=(3, 8, 8))
        torch.testing.assert_close(small(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (nn.ConvTranspose2d(4, 4, 2, 2), "a ConvTranspose2d, makes no constant map of one"),
        (nn.Sequential(nn.Conv2d(4, 16, 1), nn.PixelShuffle(2), nn.Conv2d(4, 4, 1)), "makes no constant map of one"),
        (nn.InstanceNorm2d(4), "cannot work on one position"),
    ],
)
def test_what_makes_no_constant_map_is_named(part: nn.Module, why: str) -> None:
    net = drawn(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), part, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    with pytest.raises(InputError, match=why):
        collapse(net, "0", input_size=(3, 8, 8))


def test_a_constant_tensor_of_a_site() -> None:
    net = drawn(LIBRARIES["vit"])
    flow = flow_of(net, input_size=SIZE)
    cut = list_sites(net, input_size=SIZE).cuts[1]
    value = constant_at(flow, cut)
    assert value.shape == flow.shapes[flow.entering(cut)]  # type: ignore[index]
    assert torch.equal(value[:, 1:], value[:, 1:2].expand_as(value[:, 1:]))
    assert not torch.equal(value[:, 0], value[:, 1])


def test_weights_are_those_that_are_used() -> None:
    conv = drawn(lambda: HAND["squeezed"]().stem)
    weight, bias = weights_used(conv)  # type: ignore[arg-type]
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(F.conv2d(x, weight, bias, padding=1), conv(x))


@pytest.mark.parametrize("pad", [nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d])
def test_pads_of_every_kind_go(pad: type[nn.Module]) -> None:
    net = drawn(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 1), pad(1), nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    )
    small: Any = collapse(net, "2", input_size=SIZE), collapse(net, "0", input_size=SIZE)
    assert not [m for n in small[1:] for m in n.modules() if isinstance(m, pad)]
    seen: list[Tensor] = []
    small[1].get_submodule("2").register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    small[1](torch.randn(2, *SIZE))
    assert seen[0].shape == (2, 4, 1, 1)


def test_a_network_that_asks_for_its_size_is_held_to_it() -> None:
    other = torch.randn(1, 3, 33, 33)
    asks: Any = collapse(drawn(HAND["squeezed"]), "wide", input_size=SIZE)
    with pytest.raises(InputError, match=r"pictures of 33 x 33: .*collapsed for 32 x 32; collapse it again"):
        copy.deepcopy(asks)(other)
    with pytest.raises(InputError, match="pictures of 33 x 33"):
        collapse(asks, "stem", input_size=SIZE)(other)
    net = drawn(HAND["averaged"])
    small, at_size = (collapse(net, "block", input_size=size) for size in (SIZE, (3, 33, 33)))
    with torch.no_grad():
        assert torch.equal(small(other), at_size(other))
