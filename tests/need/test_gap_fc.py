import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.alexnet import AlexNet
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.squeezenet import SqueezeNet
from torchvision.models.vgg import VGG, make_layers

from odd_nets import ODD
from small_nets import drawn
from whatwhere.errors import InputError
from whatwhere.models.cifar import CifarResNet, make
from whatwhere.need.cuts import cuts_of
from whatwhere.need.gap_fc import CollapseReport, collapse
from whatwhere.network import Network, Preprocessing
from whatwhere.site_table import list_sites

SIZE = (3, 32, 32)


def settled(net: nn.Module) -> Any:
    """Batch norms with statistics and weights of their own, so that they matter."""
    torch.manual_seed(1)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.uniform_(-0.3, 0.3)
            m.running_var.uniform_(0.5, 1.5)
            m.weight.data.uniform_(0.7, 1.3)
            m.bias.data.uniform_(-0.3, 0.3)
    return net.eval()


# ---- the slow derivation: Linear and BatchNorm1d on vectors


def linear_of(conv: nn.Conv2d) -> nn.Linear:
    """The kernel summed over space, entry by entry, groups filled with zeros."""
    out = conv.out_channels
    linear = nn.Linear(conv.in_channels, out, bias=conv.bias is not None)
    rows = []
    for o, kernels in enumerate(conv.weight.tolist()):
        group = o // (out // conv.groups)
        row = [0.0] * conv.in_channels
        for c, kernel in enumerate(kernels):
            row[group * len(kernels) + c] = sum(sum(line) for line in kernel)
        rows.append(row)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(rows))
        if conv.bias is not None:
            linear.bias.copy_(conv.bias)
    return linear


def norm_of(bn: nn.BatchNorm2d) -> nn.BatchNorm1d:
    new = nn.BatchNorm1d(bn.num_features, eps=bn.eps)
    new.load_state_dict(bn.state_dict())
    return new.eval()


def on_vectors(layers: Any, v: Tensor) -> Tensor:
    for m in layers:
        if isinstance(m, nn.Conv2d):
            v = linear_of(m)(v)
        elif isinstance(m, nn.BatchNorm2d):
            v = norm_of(m)(v)
        elif isinstance(m, nn.MaxPool2d):
            continue
        else:
            v = m(v)
    return v


def block_on_vectors(b: Any, v: Tensor) -> Tensor:
    y = F.relu(on_vectors([b.conv1, b.bn1], v))
    y = on_vectors([b.conv2, b.bn2], y)
    if hasattr(b, "conv3"):
        y = on_vectors([b.conv3, b.bn3], F.relu(y))
    return F.relu(y + (on_vectors(b.downsample, v) if b.downsample is not None else v))


@pytest.mark.parametrize("stage_end", ["max_pool", "stride"])
def test_vgg_against_linear_layers_on_vectors(stage_end: str) -> None:
    net = settled(make("vgg11", classes=5, width=1 / 16, stage_end=stage_end))
    x = torch.randn(3, *SIZE)
    with torch.no_grad():
        for cut in cuts_of(list_sites(net, input_size=SIZE)):
            k = int(cut.name.split(".")[1])
            v = net.features[:k](x).flatten(2).mean(2)
            expected = net.classifier(on_vectors(net.features[k:], v))
            small = collapse(net, cut, input_size=SIZE)
            torch.testing.assert_close(small(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("block", [BasicBlock, Bottleneck])
def test_resnet_blocks_against_linear_layers_on_vectors(block: Any) -> None:
    net = settled(CifarResNet(block, [1, 2, 1], 16, classes=4, width=1 / 4))
    x = torch.randn(2, *SIZE)
    with torch.no_grad():
        stem = net.relu(net.bn1(net.conv1(x)))
        for cut in cuts_of(list_sites(net, input_size=SIZE))[1:]:
            small = collapse(net, cut, input_size=SIZE)
            y, pooled = stem, False
            for i, stage in enumerate(net.layers):
                for j, b in enumerate(stage):
                    if cut.name == f"layers.{i}.{j}":
                        y, pooled = y.flatten(2).mean(2), True
                    y = block_on_vectors(b, y) if pooled else b(y)
            assert pooled
            torch.testing.assert_close(small(x), net.fc(y), atol=1e-5, rtol=1e-5)


def test_before_the_stem_only_the_mean_colour_is_left() -> None:
    net = settled(CifarResNet(BasicBlock, [1, 1], 16, classes=4, width=1 / 4))
    small = collapse(net, "conv1", input_size=SIZE)
    x = torch.randn(2, *SIZE)
    with torch.no_grad():
        v = F.relu(on_vectors([net.conv1, net.bn1], x.flatten(2).mean(2)))
        for stage in net.layers:
            v = block_on_vectors(stage[0], v)
        torch.testing.assert_close(small(x), net.fc(v), atol=1e-5, rtol=1e-5)
        shuffled = x.flatten(2)[..., torch.randperm(32 * 32)].view_as(x)
        torch.testing.assert_close(small(shuffled), small(x), atol=1e-5, rtol=1e-4)


def test_groups_and_biases() -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2, padding=1), nn.ReLU(), nn.Conv2d(6, 3, (1, 3), stride=2), nn.Flatten()
    )
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        expected = on_vectors(net, x.flatten(2).mean(2))
        torch.testing.assert_close(collapse(net, 0, input_size=(4, 5, 5))(x), expected)


# ---- what is left


def test_strides_pools_and_kernels_are_gone() -> None:
    net = settled(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4))
    small: Any = collapse(net, "layer2.0", input_size=(3, 64, 64))
    for name, m in small.named_modules():
        if isinstance(m, nn.Conv2d) and not name.startswith(("conv1", "layer1")):
            assert (m.kernel_size, m.stride, m.padding) == ((1, 1), (1, 1), (0, 0)), name
    assert (small.conv1.kernel_size, small.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(small.maxpool, nn.MaxPool2d)
    vgg: Any = collapse(make("vgg11", classes=5, width=1 / 16).eval(), "features.4", input_size=SIZE)
    assert [n for n, m in vgg.named_modules() if isinstance(m, nn.MaxPool2d)] == ["features.3"]


def test_the_original_is_untouched_and_nothing_is_shared() -> None:
    net = settled(make("vgg11", classes=5, width=1 / 16)).train()
    net.features[0].eval()
    state, flags = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()]
    shown, rng = repr(net), torch.get_rng_state()
    small = collapse(net, "features.8", input_size=SIZE, init="fresh")
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [m.training for m in net.modules()] == flags
    assert repr(net) == shown
    assert torch.equal(rng, torch.get_rng_state())
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in small.parameters()}
    assert not hasattr(net, "surgery")


def test_precision_flags_and_frozen_parameters_are_kept() -> None:
    net = make("vgg11", classes=5, width=1 / 16).double().train()
    net.features[4].eval().requires_grad_(False)
    small: Any = collapse(net, "features.4", input_size=SIZE)
    assert {p.dtype for p in small.parameters()} == {torch.float64}
    assert small.training
    assert small.get_submodule("features.5").training
    start = small.get_submodule("features.4")
    assert (start.training, start.weight.requires_grad) == (False, False)
    assert small.get_submodule("features.8").weight.requires_grad


def test_a_network_stays_one() -> None:
    given = Network(make("vgg11", classes=5, width=1 / 16).eval(), Preprocessing(mean=(0.1,)), "cifar/vgg11", SIZE)
    small = collapse(given, "features.4")
    assert isinstance(small, Network)
    assert small.preprocessing is given.preprocessing
    assert small.name == "cifar/vgg11 + GAP before features.4"
    assert small.module is not given.module


def test_the_report_counts() -> None:
    net = settled(make("vgg11", classes=5, width=1 / 16, stage_end="max_pool"))
    small: Any = collapse(net, "features.15", input_size=SIZE)
    report = small.surgery
    assert isinstance(report, CollapseReport)
    layers = {i: m for i, m in enumerate(net.features) if i >= 15}
    replaced = [f"features.{i}" for i, m in layers.items() if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
    assert [r.name for r in report.replaced] == replaced
    saved = sum(8 * m.weight[:, :, 0, 0].numel() for m in layers.values() if isinstance(m, nn.Conv2d))
    assert report.parameters[0] - report.parameters[1] == saved
    assert report.parameters[0] == sum(p.numel() for p in net.parameters())
    assert report.flops == tuple(list_sites(m, input_size=SIZE).total_flops for m in (net, small))
    later = sum(2 * m.weight[:, :, 0, 0].numel() for m in layers.values() if isinstance(m, nn.Conv2d))
    head = sum(2 * m.weight.numel() for m in net.classifier if isinstance(m, nn.Linear))
    before = next(s for s in list_sites(net, input_size=SIZE) if s.name == "features.15").flops_before
    assert report.flops[1] == before + later + head
    assert (report.site, report.depth_share) == ("features.15", 0.5)
    assert str(report).startswith("GAP before features.15: 50 % of the convolutions see one position; parameters ")
    assert len(str(report).split("\n")) == 1 + len(replaced)
    assert copy.deepcopy(small).surgery == report


# ---- initialisation


def test_fresh_is_reproducible_and_draws_every_later_convolution() -> None:
    torch.manual_seed(0)
    net = settled(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=4))
    a, b, c = (collapse(net, "layer3.0", input_size=(3, 64, 64), init="fresh", seed=s) for s in (3, 3, 4))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    summed: Any = collapse(net, "layer3.0", input_size=(3, 64, 64))
    for name, m in a.named_modules():
        if isinstance(m, nn.Conv2d):
            others = [n.get_submodule(name).weight for n in (c, summed)]
            assert all(torch.equal(m.weight, w) != name.startswith(("layer3", "layer4")) for w in others), name


@pytest.mark.parametrize("init", ["kernel-sum", "fresh"])
def test_both_initialisations_are_hes(init: Any) -> None:
    """A sum of k x k entries of variance 2 / (out k k) has the variance 2 / out of He's linear layer."""
    torch.manual_seed(0)
    conv = nn.Conv2d(100, 80, 3)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    small: Any = collapse(nn.Sequential(conv, nn.ReLU()), 0, init=init, input_size=(100, 5, 5))
    weight = small.get_submodule("0").weight
    assert weight.shape == (80, 100, 1, 1)
    assert weight.var().item() == pytest.approx(2 / 80, rel=0.06)
    if init == "fresh":
        assert not small.get_submodule("0").bias.any()


def test_an_unknown_initialisation_is_refused() -> None:
    with pytest.raises(InputError, match="init='zeros'"):
        collapse(make("vgg11", classes=5, width=1 / 16), 0, init="zeros")  # type: ignore[arg-type]


# ---- heads


def constant_maps(net: nn.Module, cut: str, x: Tensor, size: Any) -> Tensor:
    """The unfolded network on what the collapsed one feeds its head: the head sees a constant 7 x 7 grid."""
    small: Any = collapse(net, cut, input_size=size)
    fed: list[Tensor] = []
    last = [n for n, _ in small.named_modules() if n.startswith("features.")][-1]  # the pool behind it is gone
    handle = small.get_submodule(last).register_forward_hook(lambda _m, _a, out: fed.append(out))
    small(x)
    handle.remove()
    grid = fed[0].expand(-1, -1, *net.avgpool.output_size)
    return net.classifier(grid.flatten(1))


@pytest.mark.parametrize(
    "build",
    [
        lambda: VGG(make_layers([8, "M", 8, "M", 16, "M", 16, "M"], batch_norm=True), num_classes=5),
        lambda: AlexNet(num_classes=5),
    ],
)
def test_torchvisions_head_is_folded(build: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    net = build()
    if isinstance(net, VGG):  # a narrow head, as `VGG` itself always takes 512 channels
        net.classifier = nn.Sequential(nn.Linear(16 * 49, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 5))
    settled(net)
    size = (3, 128, 128)
    x, cut = torch.randn(2, *size), "features.3" if isinstance(net, AlexNet) else "features.4"
    small: Any = collapse(net, cut, input_size=size)
    first = next(m for m in small.classifier.modules() if isinstance(m, nn.Linear))
    assert first.in_features == (16 if isinstance(net, VGG) else 256)
    with torch.no_grad():
        torch.testing.assert_close(small(x), constant_maps(net, cut, x, size), atol=1e-5, rtol=1e-5)


def test_the_pool_of_the_head_as_the_place() -> None:
    net = VGG(make_layers([8, "M", 16, "M"]), num_classes=5)
    net.classifier = nn.Sequential(nn.Linear(16 * 49, 5))
    x = torch.randn(2, 3, 40, 40)
    with torch.no_grad():
        v = net.features(x).mean((2, 3), keepdim=True).expand(-1, -1, 7, 7)
        expected = net.classifier(v.flatten(1))
        small: Any = collapse(net.eval(), "avgpool", input_size=(3, 40, 40))
        torch.testing.assert_close(small(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [32, 224])
def test_timms_vgg(side: int) -> None:
    from timm.models.vgg import VGG as TimmVGG

    torch.manual_seed(0)
    net: Any = TimmVGG([8, "M", 8, "M", 8, "M", 16, "M", 16, "M"], num_classes=5, norm_layer=nn.BatchNorm2d)
    head = net.pre_logits
    head.fc1, head.fc2 = nn.Conv2d(16, 12, 7), nn.Conv2d(12, 12, 1)
    net.head.fc = nn.Linear(12, 5)
    settled(net)
    x = torch.randn(2, 3, side, side)
    k = 8
    with torch.no_grad():
        v = on_vectors(net.features[k:], net.features[:k](x).flatten(2).mean(2))
        v = head.act2(linear_of(head.fc2)(head.act1(linear_of(head.fc1)(v))))
        small = collapse(net, f"features.{k}", input_size=(3, side, side))
        torch.testing.assert_close(small(x), net.head.fc(v), atol=1e-5, rtol=1e-5)


# ---- other architectures: right, or refused


@pytest.mark.parametrize("site", ["features.9", "features.3"])
def test_squeezenet(site: str) -> None:
    net = settled(SqueezeNet("1_1", num_classes=4))
    x = torch.randn(2, 3, 64, 64)

    def fire(m: Any, v: Tensor) -> Tensor:
        v = F.relu(linear_of(m.squeeze)(v))
        return torch.cat([F.relu(linear_of(m.expand1x1)(v)), F.relu(linear_of(m.expand3x3)(v))], 1)

    k = int(site.split(".")[1])
    with torch.no_grad():
        v = net.features[:k](x).flatten(2).mean(2)
        for m in net.features[k:]:
            v = v if isinstance(m, nn.MaxPool2d) else fire(m, v)
        expected = F.relu(linear_of(net.classifier[1])(v))
        small = collapse(net, site, input_size=(3, 64, 64))
        torch.testing.assert_close(small(x), expected, atol=1e-5, rtol=1e-5)


def test_densenet_before_a_dense_block() -> None:
    net = settled(DenseNet(4, (2, 2), 8, num_classes=3))
    x, f = torch.randn(2, 3, 64, 64), net.features
    with torch.no_grad():
        v = f.transition1(f.denseblock1(f.pool0(f.relu0(f.norm0(f.conv0(x)))))).flatten(2).mean(2)
        features = [v]
        for layer in f.denseblock2.values():
            y = on_vectors([layer.norm1, layer.relu1, layer.conv1], torch.cat(features, 1))
            features.append(on_vectors([layer.norm2, layer.relu2, layer.conv2], y))
        v = F.relu(norm_of(f.norm5)(torch.cat(features, 1)))
        small = collapse(net, "features.denseblock2", input_size=(3, 64, 64))
        torch.testing.assert_close(small(x), net.classifier(v), atol=1e-5, rtol=1e-5)


def test_inside_of_branches_the_place_is_refused() -> None:
    site, net = "features.denseblock1.denselayer2.conv2", DenseNet(4, (2, 2), 8, num_classes=3).eval()
    with pytest.raises(
        InputError, match=f"site='{site}'.*flows around it.*next place that works is 'features.denseblock2'"
    ):
        collapse(net, site, input_size=(3, 64, 64))
    moved: Any = collapse(net, site, input_size=(3, 64, 64), move=True)
    assert moved.surgery.site == "features.denseblock2"


@pytest.mark.parametrize(("site", "said"), [("layer2.0.conv2", "works is 'layer3.0'"), ("layer4.0.conv2", "layer4.0")])
def test_inside_of_a_residual_block_the_blocks_are_named(site: str, said: str) -> None:
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4).eval()
    with pytest.raises(InputError, match=f"flows around it.*{said}"):
        collapse(net, site, input_size=(3, 64, 64))


@pytest.mark.parametrize(
    ("build", "site", "block"),
    [
        (lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4), "layer2.0.conv1", "layer2.0"),
        (lambda: SqueezeNet("1_1", num_classes=4), "features.6.expand3x3", "features.6.expand1x1"),
    ],
)
def test_a_map_that_several_read_is_pooled_for_all_of_them(build: Any, site: str, block: str) -> None:
    net, x = settled(build()), torch.randn(2, 3, 64, 64)
    a, b = (collapse(net, s, input_size=(3, 64, 64)) for s in (site, block))
    with torch.no_grad():
        assert torch.equal(a(x), b(x))


class FunctionalEnd(nn.Module):
    """The last block's sum goes through functions only, then into the global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.gap = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.gap(F.relu(x + self.conv(x))).flatten(1)


def test_a_shortcut_by_functions_is_pooled_too() -> None:
    net, x = FunctionalEnd().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        v = net.stem(x).mean((2, 3))
        expected = F.relu(v + linear_of(net.conv)(v))
        torch.testing.assert_close(collapse(net, "conv", input_size=(3, 8, 8))(x), expected, atol=1e-5, rtol=1e-5)


class Tutorial(nn.Module):
    """As in PyTorch's tutorial: one pool and one ReLU for all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3)
        self.pool, self.relu, self.gap, self.fc = nn.MaxPool2d(2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc(self.gap(self.relu(self.conv3(x))).flatten(1))


@pytest.mark.parametrize("site", ["conv1", "conv2", "conv3"])
def test_a_pool_that_serves_before_and_after(site: str) -> None:
    net = Tutorial().eval()
    x = torch.randn(2, 3, 24, 24)
    steps: list[Any] = [net.conv1, net.conv2, net.conv3]
    y, pooled = x, False
    with torch.no_grad():
        for conv in steps:
            if getattr(net, site) is conv:
                y, pooled = y.flatten(2).mean(2), True
            y = F.relu((linear_of(conv) if pooled else conv)(y))
            y = y if pooled or conv is net.conv3 else net.pool(y)
        y = net.fc(y if pooled else y.mean((2, 3)))
        torch.testing.assert_close(collapse(net, site, input_size=(3, 24, 24))(x), y, atol=1e-5, rtol=1e-5)


class Again(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.b(self.a(x)))


@pytest.mark.parametrize("site", ["a", "b", "a#2"])
def test_a_convolution_that_serves_before_and_after_becomes_two(site: str) -> None:
    net = Again().eval()
    small, x = collapse(net, site, input_size=(3, 8, 8)), torch.randn(2, 3, 8, 8)
    steps = {"a": 0, "b": 1, "a#2": 2}[site]
    with torch.no_grad():
        y = x
        for conv in (net.a, net.b, net.a)[:steps]:
            y = conv(y)
        y = on_vectors((net.a, net.b, net.a)[steps:], y.flatten(2).mean(2))
        torch.testing.assert_close(small(x).flatten(1), y)
    assert ("a_pooled.weight" in small.state_dict()) == (site != "a")


def test_weights_that_are_not_used_as_they_are() -> None:
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight - self.weight.mean(), self.bias)

    class Twice(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + super().forward(-x)

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Standardised(4, 4, 3)).eval()
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        weight = (net[1].weight - net[1].weight.mean()).sum((2, 3))  # type: ignore[union-attr]
        expected = F.linear(net[0](x).mean((2, 3)), weight, net[1].bias)  # type: ignore[arg-type]
        small = collapse(net, 1, input_size=(3, 8, 8))
        torch.testing.assert_close(small(x).flatten(1), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="a Twice convolves 2 times in one call"):
        collapse(nn.Sequential(nn.Conv2d(3, 4, 3), Twice(4, 4, 3)).eval(), 1, input_size=(3, 8, 8))
    same = timm.layers.Conv2dSame(3, 4, 3, stride=2)
    with torch.no_grad():
        small = collapse(nn.Sequential(same, nn.ReLU()), 0, input_size=(3, 8, 8))
        torch.testing.assert_close(small(x).flatten(1), F.relu(linear_of(same)(x.mean((2, 3)))))


def test_functional_pools_go() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool2d(self.conv(x), 2).mean((2, 3))

    net, x = Functional().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = linear_of(net.conv)(x.mean((2, 3)))
        torch.testing.assert_close(collapse(net, "conv", input_size=(3, 8, 8))(x), expected, atol=1e-5, rtol=1e-5)


def test_position_embeddings_make_tokens_unequal() -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=8, depth=1, num_heads=2)
    with pytest.raises(InputError, match=r"site='patch_embed.proj': add.* cannot work on one position.*'blocks\.0'"):
        collapse(net, "patch_embed.proj", input_size=(3, 16, 16))


def test_a_selection_that_matches_nothing_prints_the_choices() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'features\.4'"):
        collapse(make("vgg11", classes=5, width=1 / 16), "feature.4", input_size=SIZE)


def test_collapsing_twice_and_a_strided_average_pool() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 2, 1), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1, stride=2)
    )
    x = torch.randn(2, 3, 16, 16)
    once: Any = collapse(net.eval(), "2", input_size=(3, 16, 16))
    twice: Any = collapse(once, "0", input_size=(3, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(twice(x).flatten(1), on_vectors([net[0], *net[2:]], x.mean((2, 3))))
    assert twice.surgery.site == "0"
    assert once.surgery.site == "2"


@pytest.mark.parametrize("how", ["keywords", "None first"])
def test_a_site_that_is_called_with_keywords_is_pooled_as_any_other(how: str) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, mask: Any = None, hidden_states: Any = None) -> Tensor:
            return self.norm(mask if hidden_states is None else hidden_states).relu()

    class Net(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c, self.how = nn.Conv2d(3, 4, 3), Branch(), nn.Conv2d(4, 5, 3, padding=1), how

        def forward(self, x: Tensor) -> Tensor:
            calls = {"positional": (self.a(x),), "None first": (None, self.a(x))}
            x = self.b(hidden_states=self.a(x)) if self.how == "keywords" else self.b(*calls[self.how])
            return self.c(input=x).mean((2, 3))

    x = torch.randn(2, 3, 8, 8)
    for site in ("b", "c"):
        plain, asked = (collapse(Net(h).eval(), site, input_size=(3, 8, 8)) for h in ("positional", how))
        with torch.no_grad():
            assert torch.equal(plain(x), asked(x))
            assert not torch.equal(plain(x), Net(how).eval()(x))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": "x", "init": "fresh"}, "seed='x': give a whole number"),
        ({"input_size": 5}, r"input_size=5: give \(channels, height, width\)"),
        ({"input_size": (3,)}, r"input_size=\(3,\): give"),
        ({"input_size": (3, 0, 32)}, r"input_size=\(3, 0, 32\): give"),
        ({"input_size": "x"}, "input_size='x': give"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        collapse(make("vgg11", classes=3, width=1 / 16), "features.25", **options)


# ---- networks of less usual kinds, against the network itself with its map forced to be constant


def circular(net: nn.Module) -> nn.Module:
    """Without borders: every convolution that pads goes round."""
    for m in net.modules():
        if type(m) is nn.Conv2d and any(m.padding):  # type: ignore[arg-type]
            m.padding_mode = "circular"
    return net


def forced(net: nn.Module, site: Any, x: Tensor) -> Any:
    """What a network gives if the map that enters a site is its mean everywhere."""
    calls = 0

    def enter(m: nn.Module, args: Any) -> Any:
        nonlocal calls
        calls += 1
        return (args[0].mean((2, 3), keepdim=True).expand_as(args[0]).contiguous(),) if calls == site.call else None

    handle = net.get_submodule(site.module).register_forward_pre_hook(enter)
    try:
        return net(x)
    finally:
        handle.remove()


COLLAPSED = {  # by network, the cuts at which it can be collapsed
    "out given": ["stem", "last"],
    "in place": ["stem", "last"],
    "augmented": ["stem", "last"],
    "mixer": ["last"],
    "unfolded": ["last"],
    "shared": ["stem", "a#1", "a#2", "last"],
    "unet": ["stem", "last"],
    "dense": ["stem", "last"],
    "transposed": ["last"],
    "depth": ["stem", "last"],
    "channels last": ["stem", "a", "last"],
    "channel shuffle": ["stem", "last"],
    "coordinates": ["wider", "last"],
    "embedded": ["a", "last"],
    "attention": ["stem", "last"],
    "fourier": ["stem", "last"],
    "rolled": ["stem", "last"],
    "sliced": ["stem", "focus", "last"],
    "zeros around": ["bare", "last"],
    "put into": ["bare", "last"],
    "asked": [],
    "one by one": [],
    "whitened": ["a", "last"],
    "cumulative": ["a", "last"],
    "lstm head": [],
    "tuple head": ["stem", "a#1", "a#2"],
    "flat head": ["stem", "a#1", "a#2", "last"],
    "statistics head": [],
    "centre head": ["stem", "a#1", "a#2", "last"],
    "sum head": [],
    "norm head": [],
}


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("name", COLLAPSED)
def test_odd_networks_do_what_they_do_to_a_constant_map_or_are_refused(name: str) -> None:
    net = circular(drawn(ODD[name]))
    x = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(7)) * 2
    done = []
    for cut in list_sites(net, input_size=SIZE).cuts:
        try:
            small = collapse(net, cut, input_size=SIZE)
        except InputError:
            continue
        done.append(cut.name)
        with torch.no_grad():
            torch.testing.assert_close(small(x.clone()), forced(net, cut, x.clone()), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(small(x[1:2].clone()), forced(net, cut, x[1:2].clone()), atol=1e-4, rtol=1e-4)
    assert done == COLLAPSED[name]


@pytest.mark.parametrize(
    ("name", "site", "why"),
    [
        ("asked", "last", "its Python asks for values of the picture"),
        ("one by one", "last", "its Python asks how many pictures there are"),
        ("whitened", "stem", r"var cannot work on one position: it gives no number \(NaN\)"),
        ("statistics head", "last", r"std cannot work on one position: it gives no number \(NaN\)"),
        ("cumulative", "stem", "the map that enters a varies over space"),
        ("zeros around", "stem", "the map that enters bare varies over space"),
        ("put into", "stem", "the map that enters bare varies over space"),
        ("coordinates", "stem", "the map that enters wider varies over space"),
        ("strongest", "stem", "topk cannot work on one position"),
        ("sum head", "last", "its scores on a constant map would differ"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
def test_why_odd_networks_are_refused(name: str, site: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        collapse(drawn(ODD[name]), site, input_size=SIZE)


def test_maps_and_scores_in_a_dict() -> None:
    net = circular(drawn(ODD["dict head"]))
    x = torch.randn(2, *SIZE)
    cut = list_sites(net, input_size=SIZE).cuts[-1]
    with torch.no_grad():
        given, expected = collapse(net, cut, input_size=SIZE)(x), forced(net, cut, x)
        torch.testing.assert_close(given["scores"], expected["scores"])
        torch.testing.assert_close(given["map"].expand_as(expected["map"]), expected["map"])


class Amplified(nn.Module):
    """Makes much of small differences between its channels, and so of the rounding of its summed kernels."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.conv, self.fc, self.wrong = nn.Conv2d(3, 8, 5, padding=2, bias=False), nn.Linear(8, 5), wrong
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(1, 3, 5, 5) + 1e-5 * torch.randn(8, 3, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = 1e5 * (y - y.mean(1, keepdim=True))
        y = y + y.cumsum(3) / 10 if self.wrong else y
        return self.fc(torch.tanh(y).mean((2, 3)))


def test_rounding_that_a_network_amplifies_is_told_from_a_fault() -> None:
    torch.manual_seed(0)
    net = Amplified().eval()
    exact = copy.deepcopy(net).double()
    x = torch.randn(4, 3, 16, 16)
    small, double = (collapse(n, "conv", input_size=(3, 16, 16)) for n in (net, exact))
    with torch.no_grad():
        summed = exact.conv.weight.sum((2, 3))
        y = x.double().mean((2, 3)) @ summed.T
        expected = exact.fc(torch.tanh(1e5 * (y - y.mean(1, keepdim=True))))
        torch.testing.assert_close(double(x.double()), expected)
        assert float((small(x) - expected).abs().max()) > 1e-4 * float(expected.abs().max())  # it is rounding
    with pytest.raises(InputError, match=r"scores on a constant map would differ|varies over space"):
        collapse(Amplified(wrong=True).eval(), "conv", input_size=(3, 16, 16))
