import math
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from whatwhere.errors import InputError
from whatwhere.models.cifar import make
from whatwhere.need import collapse
from whatwhere.network import Network
from whatwhere.site import Site, Sites, evaluating, expected_input_size
from whatwhere.site_table import list_sites

SMALL = (3, 32, 32)


@pytest.fixture(scope="module")
def vgg() -> Sites:
    return list_sites(make("vgg16", classes=10, width=1 / 16), input_size=SMALL)


@pytest.fixture(scope="module")
def resnet() -> Sites:
    return list_sites(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), input_size=(3, 64, 64))


def names(found: list[Site]) -> list[str]:
    return [s.name for s in found]


def test_every_kind_of_selection(resnet: Sites) -> None:
    net = resnet._module
    order = {s.name: s.order for s in resnet}
    inside = [s.name for s in resnet if s.module == "layer3" or s.module.startswith("layer3.")]
    assert resnet.select(None) == list(resnet)
    assert names(resnet.select("layer3.0.conv1")) == ["layer3.0.conv1"]
    assert names(resnet.select("layer3*")) == inside
    assert names(resnet.select("layer3.0:")) == [s.name for s in resnet if s.order >= order["layer3.0"]]
    assert names(resnet.select(":layer1.0.conv1")) == [s.name for s in resnet if s.order <= order["layer1.0.conv1"]]
    a, b = order["layer1.0.conv2"], order["layer2.0.bn1"]
    assert names(resnet.select("layer1.0.conv2:layer2.0.bn1")) == [s.name for s in resnet if a <= s.order <= b]
    assert names(resnet.select(0)) == [resnet[0].name]
    assert names(resnet.select(-1)) == [resnet[-1].name]
    assert names(resnet.select(-3)) == [resnet[-3].name]
    assert names(resnet.select(0.25)) == names(resnet.select("last 25%")) == names(resnet.select("layer4.0:"))
    assert names(resnet.select(net.get_submodule("layer2.0.conv2"))) == ["layer2.0.conv2"]
    assert names(resnet.select(lambda s: s.kind == "pool")) == ["maxpool", "avgpool"]
    assert names(resnet.select(resnet[4])) == [resnet[4].name]
    assert names(resnet.select(["layer2.0.conv2", 0, "layer2.0.conv2"])) == ["conv1", "layer2.0.conv2"]
    assert names(resnet.select(resnet.of_kind("pool"))) == ["maxpool", "avgpool"]


def test_a_module_name_stands_for_its_calls_and_a_number_for_one(resnet: Sites) -> None:
    assert names(resnet.select("layer1.0.relu")) == ["layer1.0.relu#1", "layer1.0.relu#2"]
    assert names(resnet.select("layer1.0.relu#2")) == ["layer1.0.relu#2"]


def test_a_window_that_ends_at_a_block_takes_in_its_parts(resnet: Sites) -> None:
    chosen = names(resnet.select("layer1.0:layer2.0"))
    assert chosen[0] == "layer1.0"
    assert chosen[-1] == "layer2.0.relu#2"


def test_a_window_of_a_part_of_the_table() -> None:
    table = list_sites(make("vgg11", classes=3, width=1 / 16), input_size=SMALL)
    convs = table.of_kind("conv")
    assert names(convs.select(f"{convs[3].name}:")) == names(list(convs)[3:])
    assert names(convs.select(f":{convs[3].name}")) == names(list(convs)[:4])


@pytest.mark.parametrize(
    "which",
    [
        "layer9",
        "layer9*",
        1000,
        -1000,
        lambda s: False,
        0.0001,
        nn.ReLU(),
        "layer2.0:layer1.0",
        "layer2.0.conv2:layer2.0.conv1",
        ["conv1", "nothing"],
    ],
)
def test_a_selection_that_matches_nothing_prints_the_choices(which: Any) -> None:
    table = list_sites(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), input_size=(3, 64, 64)).of_kind("conv", "block")
    with pytest.raises(InputError, match=r"matches nothing.*Choices: conv1, layer1\.0"):
        table.select(which)


def test_a_window_never_begins_before_its_beginning(resnet: Sites) -> None:
    assert names(resnet.select("layer2.0.conv2:layer2.0"))[0] == "layer2.0.conv2"


def test_the_nearest_name_is_offered(resnet: Sites) -> None:
    with pytest.raises(InputError, match=r"Did you mean 'layer4\.0\.conv2'"):
        resnet.select("layer4.0.conv_2")


@pytest.mark.parametrize("which", [True, object(), "last many%"])
def test_what_is_no_selection_is_refused(resnet: Sites, which: Any) -> None:
    with pytest.raises(InputError):
        resnet.select(which)


@pytest.mark.parametrize(
    "which", ["last 130%", "last 0%", "last -3%", "last nan%", "last inf%", 0.0, 1.3, -0.1, math.nan]
)
def test_a_share_that_cannot_be_is_refused(resnet: Sites, which: Any) -> None:
    with pytest.raises(InputError, match=r"sites=.*: give a share above 0 and at most all, such as 'last 30%'"):
        resnet.select(which)


def test_a_share_begins_at_a_cut_whatever_is_selected_from(resnet: Sites, vgg: Sites) -> None:
    """Not at the norm behind the convolution before, nor in the middle of a residual block."""
    assert vgg.select("last 38%")[0].kind == "conv"
    assert vgg.start("last 38%") == vgg.start(0.38) == vgg.select("last 38%")[0]
    assert names(vgg.of_kind("norm").select("last 38%")) == [s.name for s in vgg.select("last 38%") if s.kind == "norm"]
    assert resnet.select("last 45%")[0].name == "layer4.0"  # that of layer3.0.conv2 alone is 42 %
    assert resnet.start("last 100%").name == "conv1"
    assert vgg.start("features.3:").name == "features.3"


def test_the_shares_of_a_network_without_convolutions_are_of_its_linear_layers() -> None:
    table = list_sites(timm.create_model("test_vit", num_classes=3), input_size=(3, 160, 160))
    half = table.select("last 50%")
    assert half
    assert all(s.depth_share <= 0.51 for s in half)


def test_an_empty_selection_is_no_silent_no_op(resnet: Sites) -> None:
    with pytest.raises(InputError, match="empty"):
        resnet.select([])


# ---- tracing


def test_the_input_size_comes_from_the_network() -> None:
    conv = nn.Sequential(nn.Conv2d(5, 4, 3))
    assert expected_input_size(conv) == (5, 224, 224)
    assert expected_input_size(Network(conv, input_size=(5, 9, 9))) == (5, 9, 9)
    conv.pretrained_cfg = {"input_size": (5, 7, 7)}
    assert expected_input_size(conv) == (5, 7, 7)
    assert [s.shape_in for s in list_sites(conv)] == [(5, 7, 7)]


def test_evaluating_puts_mixed_flags_back() -> None:
    net = nn.Sequential(nn.ReLU(), nn.ReLU()).train()
    net[0].eval()
    with evaluating(net):
        assert not any(m.training for m in net.modules())
        assert not torch.is_grad_enabled()
    assert [m.training for m in net.modules()] == [True, False, True]


def test_the_table_prints_one_line_a_site(resnet: Sites) -> None:
    assert repr(resnet) == f"<Sites, {len(resnet)} rows>"
    lines = str(resnet).split("\n")
    assert len(lines) == len(resnet) + 1
    assert lines[1].split() == ["0", "conv1", "conv", "NCHW", "3x64x64", "64x32x32", "100", "%"]


def test_names_with_brackets_and_colons_name_themselves() -> None:
    def conv() -> nn.Module:
        return nn.Conv2d(3, 3, 3, padding=1)

    blocks = nn.ModuleDict({"conv[1]": conv(), "conv1": conv(), "a:b": conv(), "last 1": conv()})
    table = list_sites(nn.Sequential(*blocks.values()), input_size=(3, 8, 8))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = blocks

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks.values():
                x = block(x)
            return x

    table = list_sites(Net(), input_size=(3, 8, 8))
    for name in ("blocks.conv[1]", "blocks.a:b", "blocks.last 1", "blocks.conv1"):
        assert [s.name for s in table.select(name)] == [name]
    assert [s.name for s in table.select("blocks.conv*")] == ["blocks.conv[1]", "blocks.conv1"]
    assert [s.name for s in table.select("*[1]")] == ["blocks.conv1", "blocks.last 1"]  # still a glob elsewhere


NO_SHARE = "give a share above 0 and at most all, such as 'last 30%' (or 0.3)."
NO_NUMBER = "write a percentage such as 'last 30%'."


@pytest.mark.parametrize(
    ("which", "advice"),
    [
        ("last 130%", NO_SHARE),
        ("last 0%", NO_SHARE),
        ("last -5%", NO_SHARE),
        ("last nan%", NO_SHARE),
        ("last x%", NO_NUMBER),
        (1.5, NO_SHARE),
        (-0.1, NO_SHARE),
        (0.0, NO_SHARE),
    ],
)
def test_shares_that_cannot_be_are_refused(which: Any, advice: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1))
    with pytest.raises(InputError) as refused:
        list_sites(net, input_size=(3, 8, 8)).select(which)
    assert str(refused.value) == f"sites={which!r}: {advice}"


def test_timms_networks_of_one_channel_say_so() -> None:
    net = timm.create_model("test_resnet", in_chans=1)
    assert expected_input_size(net)[0] == 1
    assert list_sites(net)[0].shape_in[0] == 1


def test_a_module_that_is_never_called_stands_for_what_is_in_it() -> None:
    """In a collapsed network a block is a name only: its layers are called by the graph."""
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5)
    size = (3, 64, 64)
    small = list_sites(collapse(net, "layer3.0", input_size=size), input_size=size)
    assert "layer1.0" not in names(list(small))
    inside = [s.name for s in list_sites(net, input_size=size) if s.module.startswith("layer1.0.")]
    assert names(small.select("layer1.0")) == inside
    with pytest.raises(InputError, match=r"sites='layer1\.9' matches nothing"):
        small.select("layer1.9")


def test_a_notebook_shows_the_table(resnet: Sites) -> None:
    shown = resnet._repr_html_()
    assert f"<p>{len(resnet)} sites, of an input of 3 x 64 x 64.</p>" in shown
    assert shown.count("<tr>") == min(len(resnet), 30) + 1
    for word in ("layer1.0.conv1", "3x64x64", "100 %", "depth share"):
        assert f">{word}</t" in shown
    pools = resnet.of_kind("pool")._repr_html_()
    assert "maxpool" in pools
    assert "conv1" not in pools
