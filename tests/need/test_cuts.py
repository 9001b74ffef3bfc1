import pytest
from torch import nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from whatwhere.errors import InputError
from whatwhere.models.cifar import make
from whatwhere.need.cuts import cut_at_share, cuts_of
from whatwhere.site import list_sites

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


def test_a_densenet_is_cut_before_each_k_by_k_convolution() -> None:
    net = DenseNet(4, (2, 2), 8, num_classes=3)
    kernels = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    assert [c.name for c in cuts_of(list_sites(net, input_size=SIZE))] == kernels


def test_a_network_that_cannot_be_cut_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU())
    with pytest.raises(InputError, match="name the sites to cut at"):
        cuts_of(list_sites(net, input_size=SIZE))


@pytest.mark.parametrize(("share", "convs"), [(0.3, 4), (0.53, 7), (1.0, 13), (0.08, 1), (0.31, 4), (0.35, 5)])
def test_the_nearest_cut_by_counting(share: float, convs: int) -> None:
    cuts = cuts_of(list_sites(make("vgg16", classes=3, width=1 / 16), input_size=SIZE))
    assert min(range(1, 14), key=lambda k: abs(k / 13 - share)) == convs
    assert cut_at_share(cuts, share) is cuts[13 - convs]


def test_no_cut_near_lists_the_shares() -> None:
    cuts = cuts_of(list_sites(make("vgg16", classes=3, width=1 / 16), input_size=SIZE))
    with pytest.raises(InputError, match=r"share=0 %.*100, 92, 85.*15, 8 %"):
        cut_at_share(cuts, 0.0)
    with pytest.raises(InputError, match="no cut is near"):
        cut_at_share(cuts, 0.345, slack=0.01)
    assert cut_at_share(cuts, 0.0, slack=0.1) is cuts[-1]
