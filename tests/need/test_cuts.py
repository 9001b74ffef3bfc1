from typing import Any

import pytest
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.models.cifar import make
from whatwhere.need.cuts import cut_at_share, cuts_of
from whatwhere.need.gap_fc import collapse
from whatwhere.need.shuffling import shuffle
from whatwhere.site import Site
from whatwhere.site_table import list_sites

SIZE = (3, 32, 32)


def test_a_vgg_is_cut_before_each_convolution() -> None:
    net = make("vgg16", classes=3, width=1 / 16)
    convs = [f"features.{i}" for i, m in enumerate(net.features) if isinstance(m, nn.Conv2d)]
    cuts = cuts_of(list_sites(net, input_size=SIZE))
    assert [c.name for c in cuts] == convs
    # The paper's shares, of 13 convolutions: 100, 92, 85, ... 8 %.
    assert [round(100 * c.depth_share) for c in cuts] == [100, 92, 85, 77, 69, 62, 54, 46, 38, 31, 23, 15, 8]


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_a_resnet_is_cut_before_the_stem_and_each_block(block: type[BasicBlock]) -> None:
    net = ResNet(block, [2, 1, 1, 2], num_classes=3)
    blocks = ["layer1.0", "layer1.1", "layer2.0", "layer3.0", "layer4.0", "layer4.1"]
    assert [c.name for c in cuts_of(list_sites(net, input_size=(3, 64, 64)))] == ["conv1", *blocks]


def test_a_densenet_is_cut_before_the_stem_and_each_block() -> None:
    """Inside a block what came before goes round every layer, into the concatenations."""
    cuts = cuts_of(list_sites(DenseNet(4, (2, 2), 8, num_classes=3), input_size=SIZE))
    assert [c.name for c in cuts] == ["features.conv0", "features.denseblock1", "features.denseblock2"]


def test_a_network_that_cannot_be_cut_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    with pytest.raises(InputError, match="name the sites to cut at"):
        cuts_of(list_sites(net, input_size=SIZE))


def vgg16() -> tuple[ww.Network, list[Site]]:
    net = ww.load_model("cifar/vgg16", classes=3, width=1 / 16)
    return net, cuts_of(list_sites(net))


@pytest.mark.parametrize(
    ("share", "convs"),
    [(0.3, 4), (0.53, 7), (1.0, 13), (0.08, 1), (0.31, 4), (0.35, 4), (0.38, 5), (5 / 13, 5), (0.5, 6)],
)
def test_a_share_names_one_place_everywhere(share: float, convs: int) -> None:
    """By counting: the most convolutions whose share, in whole per cent rounded down, is not above it."""
    assert max(k for k in range(1, 14) if 100 * k // 13 <= 100 * share + 1e-9) == convs
    net, cuts = vgg16()
    place, text = cuts[13 - convs], f"last {100 * share}%"
    assert cut_at_share(cuts, share) is place
    assert list_sites(net).start(text) == list_sites(net).start(share) == place
    collapsed: Any = [collapse(net, which).module for which in (text, share, place.name)]
    assert [c.surgery.site for c in collapsed] == [place.name] * 3
    with shuffle(net, text) as removal:
        assert removal.matched == shuffle(net, f"{place.name}:").matched


@pytest.mark.parametrize("model", ["cifar/resnet20", "cifar/resnet50", "cifar/vgg11", "torchvision/squeezenet1_1"])
def test_the_share_of_every_cut_leads_back_to_it(model: str) -> None:
    net = ww.load_model(model, classes=3)
    table = list_sites(net, input_size=SIZE if model.startswith("cifar") else (3, 64, 64))
    for cut in cuts_of(table):
        assert cut_at_share(cuts_of(table), cut.depth_share) == table.start(cut.depth_share) == cut
        assert table.start(f"last {100 * cut.depth_share!r}%") == cut


def test_no_cut_near_lists_the_shares() -> None:
    _, cuts = vgg16()
    with pytest.raises(InputError, match=r"share=0 %.*100, 92, 85.*15, 8 %"):
        cut_at_share(cuts, 0.0)
    with pytest.raises(InputError, match="no cut is near"):
        cut_at_share(cuts, 0.345, slack=0.01)
    with pytest.raises(InputError, match=r"sites='last 5%' matches nothing: no cut is that deep.*15, 8 %"):
        collapse(vgg16()[0], "last 5%")
