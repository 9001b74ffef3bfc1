"""Recalibration put into networks, by their own families."""

from collections import OrderedDict
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d

import whatwhere as ww
from small_choice import on_demand
from small_gates import branches_gone, shut
from small_nets import HAND, LIBRARIES, PAPERS, SIZE, drawn
from whatwhere.errors import InputError
from whatwhere.use import MSSAR, SE, recalibrate
from whatwhere.use.recalibrated import Recalibrated

ONNX = "ONNX export needs onnx, onnxscript and onnxruntime: pip install -e '.[dev]'"


def gates(module):
    return [m for m in module.modules() if isinstance(m, MSSAR)]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("cifar/resnet20", 9),
        ("torchvision/resnet18", 8),
        pytest.param("torchvision/resnet50", 16, marks=on_demand),
        ("timm/resnet18", 8),
        pytest.param("torchvision/densenet121", 58, marks=on_demand),
        pytest.param("torchvision/wide_resnet50_2", 16, marks=on_demand),
        pytest.param("timm/resnext50_32x4d", 16, marks=on_demand),
        pytest.param("timm/densenet121", 58, marks=on_demand),
    ],
)
def test_every_block_gets_one_and_the_outputs_stay_what_they_were(name, blocks):
    net = ww.load_model(name, classes=10)
    gated = recalibrate(net, "ms_sar", identity_init=True)
    assert isinstance(gated, ww.Network)
    assert len(gates(gated.module)) == blocks == len(gated.module.surgery.inserted)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(gated.module(x), net.module(x), atol=0, rtol=0)
    assert not gates(net.module)


def test_it_stands_before_the_addition():
    torch.manual_seed(0)
    block = ww.load_model("torchvision/resnet18", classes=2).module.layer1[0]
    net = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    gated = recalibrate(net, "se", ratio=4, input_size=(64, 8, 8)).eval()
    x = torch.randn(2, 64, 8, 8)
    with torch.no_grad():
        branch = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
        gate = gates(gated)[0]
        expected = (gate(branch) + x).relu()
        torch.testing.assert_close(gated[0](x), expected)


class PyramidBlock(nn.Module):
    """A block of PyramidNet (Han et al. 2017): norm first and last, an identity padded with zero channels."""

    def __init__(self, channels, more, downsample=None):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, more, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(more)
        self.conv2 = nn.Conv2d(more, more, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(more)
        self.downsample = downsample

    def branch(self, x):
        return self.conv2(self.bn2(self.conv1(self.bn1(x))).relu())

    def forward(self, x):
        out = self.bn3(self.branch(x))
        shortcut = x if self.downsample is None else self.downsample(x)
        return out + nn.functional.pad(shortcut, (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))


def test_in_a_pyramid_block_it_stands_behind_the_last_norm():
    torch.manual_seed(0)
    net = nn.Sequential(PyramidBlock(6, 9), PyramidBlock(9, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    gated = recalibrate(net, "ms_sar", ratio=1, input_size=(6, 8, 8))
    assert [(r.name, g.channels) for r, g in zip(gated.surgery.inserted, gates(gated), strict=True)] == [
        ("0.bn3", 9),
        ("1.bn3", 12),
    ]
    block, x = net[0], torch.randn(2, 6, 8, 8)
    with torch.no_grad():
        expected = gates(gated)[0](block.bn3(block.branch(x))) + nn.functional.pad(x, (0, 0, 0, 0, 0, 3))
        torch.testing.assert_close(gated[0](x), expected)


def test_a_dense_layers_new_maps_are_recalibrated():
    net = ww.load_model("torchvision/densenet121", classes=2).module
    gated = recalibrate(net, "se", input_size=(3, 64, 64))
    assert {g.channels for g in gates(gated)} == {32}  # the growth rate: new maps only


def test_sites_choose_the_blocks():
    net = ww.load_model("timm/resnet18")
    gated = recalibrate(net, "se", sites="layer4*")
    assert [r.name for r in gated.module.surgery.inserted] == ["layer4.0.bn2", "layer4.1.bn2"]


@pytest.mark.parametrize("method", ["eca", "cbam", "gca", "coord"])
def test_timms_attention_by_name(method):
    gated = recalibrate(ww.load_model("cifar/resnet20", classes=10), method)
    assert len(gated.module.surgery.inserted) == 9
    assert gated.module(torch.randn(1, 3, 32, 32)).shape == (1, 10)


def test_a_class_or_a_function_of_ones_own():
    net = ww.load_model("cifar/resnet20", classes=10)
    by_class = recalibrate(net, SE, ratio=4)
    by_function = recalibrate(net, lambda channels: nn.BatchNorm2d(channels))
    assert len(gates(by_class.module)) == 9
    assert by_function.module.surgery.method == "<lambda>"


def test_the_report_counts_what_was_added():
    net = ww.load_model("cifar/resnet20", classes=10)
    gated = recalibrate(net, "ms_sar")
    added = sum(sum(p.numel() for p in g.parameters()) for g in gates(gated.module))
    before, after = gated.module.surgery.parameters
    assert after - before == added
    assert "9 modules inserted" in str(gated.module.surgery)


def test_new_weights_depend_on_the_seed_alone():
    net = ww.load_model("cifar/resnet20", classes=10)
    state = torch.get_rng_state()
    a, b, c = (recalibrate(net, "ms_sar", seed=s).module.state_dict() for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(a[k], c[k]) for k in a)


def test_weights_of_the_plain_network_load_into_the_recalibrated_one():
    plain, other = (ww.load_model("cifar/resnet20", classes=10, seed=s) for s in (1, 0))
    gated = recalibrate(other, "ms_sar", identity_init=True)
    missing, unexpected = gated.module.load_state_dict(plain.module.state_dict(), strict=False)
    assert not unexpected
    assert all(".gate." in name for name in missing)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(gated.module(x), plain.module(x))
    again = recalibrate(other, "ms_sar", seed=5)
    again.module.load_state_dict(gated.module.state_dict())  # its own names too
    assert isinstance(again.module.layers[0][0].bn2, Recalibrated)


def test_it_can_stand_in_timms_slot():

    net = timm.create_model("resnet18", num_classes=2, block_args={"attn_layer": MSSAR})
    assert len(gates(net)) == 8
    assert net(torch.randn(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize(
    ("name", "method", "options", "message"),
    [
        ("cifar/resnet20", "ms_sarr", {}, "Did you mean 'ms_sar'"),
        ("cifar/resnet20", "ms_sar", {"scale": 3}, "cannot be made"),
        ("cifar/vgg11", "ms_sar", {}, "no residual block"),
        ("cifar/resnet20", "ms_sar", {"sites": "conv1"}, "no residual block"),
        ("cifar/resnet20", lambda channels: 3, {}, "expected a module"),
        ("cifar/resnet20", lambda channels: nn.Conv2d(3, 3, 1), {}, "does not run"),
    ],
)
def test_what_cannot_be_done_is_refused(name, method, options, message):
    with pytest.raises(InputError, match=message):
        recalibrate(ww.load_model(name, classes=10), method, **options)


def test_an_unknown_method_lists_each_choice_once():
    with pytest.raises(InputError, match="method='sse' matches nothing") as raised:
        recalibrate(ww.load_model("cifar/resnet20", classes=10), "sse")
    listed = str(raised.value).split("Choices: ")[1].split(", …")[0].split(", ")
    assert listed.count("se") == 1
    assert len(set(listed)) == len(listed)


class PreActivation(nn.Module):
    """He et al. 2016, Identity Mappings: norm and activation before each convolution."""

    def __init__(self, channels):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.downsample = None

    def forward(self, x):
        return x + self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())


def test_in_a_pre_activation_block_it_stands_behind_the_last_convolution():
    torch.manual_seed(0)
    net = nn.Sequential(PreActivation(8)).eval()
    gated = recalibrate(net, "se", ratio=2, input_size=(8, 6, 6))
    assert [r.name for r in gated.surgery.inserted] == ["0.conv2"]
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        expected = x + gates(gated)[0](net[0](x) - x)
        torch.testing.assert_close(gated.eval()(x), expected)


@pytest.mark.parametrize(
    ("sites", "count"),
    [
        ("features.denseblock1", 3),
        ("features.denseblock1*", 3),
        ("features.denseblock2.denselayer1", 1),
        ("*denselayer2", 3),
        (["features.denseblock1.denselayer1", "features.denseblock3*"], 4),
        ("last 30%", 3),
    ],
)
def test_dense_layers_are_chosen_by_name_or_by_what_holds_them(sites, count):
    gated = recalibrate(ww.load_model("cifar/densenet22", classes=10, width=0.5), "se", sites=sites)
    assert len(gated.module.surgery.inserted) == count


def test_a_second_recalibration_is_refused():
    gated = recalibrate(ww.load_model("cifar/resnet20", classes=10, width=0.5), "se")
    with pytest.raises(InputError, match=r"layers.0.0 is already recalibrated"):
        recalibrate(gated, "ms_sar")


# Through ONNX Runtime, to the same numbers


def through_onnx(module: nn.Module, x: torch.Tensor, file) -> torch.Tensor:
    onnxruntime = pytest.importorskip("onnxruntime", reason=ONNX)
    pytest.importorskip("onnxscript", reason=ONNX)
    torch.onnx.export(module, (x,), file, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(out)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (8, 8)),
        ({"weights": "per-cell"}, (7, 6)),
        ({"upsample": "bilinear"}, (8, 8)),
        ({"symmetric": True}, (8, 8)),
    ],
)
def test_a_module_agrees(options, shape, tmp_path):
    torch.manual_seed(0)
    module, x = MSSAR(8, ratio=2, **options).eval(), torch.randn(2, 8, *shape)
    with torch.no_grad():
        torch.testing.assert_close(through_onnx(module, x, tmp_path / "m.onnx"), module(x), atol=1e-5, rtol=1e-4)


def test_a_network_agrees(tmp_path):
    gated = recalibrate(ww.load_model("cifar/bagnet4", classes=10), "ms_sar")
    module, x = gated.module.eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(through_onnx(module, x, tmp_path / "n.onnx"), module(x), atol=1e-4, rtol=1e-3)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NORMS = {
    "group norm": lambda c: nn.GroupNorm(4, c),
    "layer norm": LayerNorm2d,
    "instance norm": nn.InstanceNorm2d,
    "frozen batch norm": FrozenBatchNorm2d,
    "none": lambda c: nn.Identity(),
}


@pytest.mark.parametrize("norm", NORMS)
def test_blocks_with_any_norm_or_none_are_recalibrated(norm):
    torch.manual_seed(0)
    blocks = [BasicBlock(8, 8, norm_layer=NORMS[norm]) for _ in range(2)]
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks).eval()
    gated = recalibrate(net, "ms_sar", identity_init=True, input_size=(3, 8, 8))
    assert [g.channels for g in gates(gated)] == [8, 8]
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(gated(x), net(x), atol=0, rtol=0)


def test_a_layer_that_is_called_with_a_keyword_of_its_own_is_recalibrated():
    class Pointwise(nn.Conv2d):
        def forward(self, x, scale=1.0):
            return scale * super().forward(x)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.bn1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), Pointwise(3, 3, 1)
            self.downsample = None

        def forward(self, x):
            return x + self.conv2(x=self.bn1(self.conv1(x)), scale=0.5)

    net = nn.Sequential(Block()).eval()
    x = torch.randn(2, 3, 8, 8)
    gated = recalibrate(net, "se", identity_init=True, input_size=(3, 8, 8))
    assert torch.equal(gated(x), net(x))


def test_dense_layers_and_blocks_with_brackets_in_their_names_are_selected():
    block = BasicBlock(4, 4)
    net = nn.Sequential(
        OrderedDict([("stem", nn.Conv2d(3, 4, 3, padding=1)), ("b[1]", block), ("b1", BasicBlock(4, 4))])
    )
    gated = recalibrate(net, "se", sites=["b[1]"], input_size=(3, 8, 8))
    assert [r.name for r in gated.surgery.inserted] == ["b[1].bn2"]


def test_a_block_that_never_runs_is_named():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = BasicBlock(3, 3), BasicBlock(3, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(InputError, match=r"never ran, or gave no map.*idle; leave them out"):
        recalibrate(Idle(), "se", input_size=(3, 8, 8))


# Every make: by watching what the running network adds and concatenates, without the graph that places were found in


def check_gates(net: nn.Module, size: tuple[int, int, int], count: int, **options: Any) -> nn.Module:
    """Gates of 1 change nothing; with gates of 0 as many branches are gone as there are gates, before none."""
    gated = recalibrate(net, "ms_sar", identity_init=True, input_size=size, **options)
    x = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(gated(x), net(x), atol=0, rtol=0)
    assert branches_gone(gated, x) == 0
    shut(gated)
    assert branches_gone(gated, x) == count == len(gated.surgery.inserted)
    return gated


SMALL = {
    "averaged": 2,
    "shortcut": 1,
    "squeezed": 1,
    "resnet": 4,
    "bottlenecks": 4,
    "densenet": 4,
    "byobnet": 4,
    "preact": 4,
    "convnext": 9,
    "nfnet": 4,
    "coatnet": 8,
    "vit": 12,
    "swin": 4,
}


@pytest.mark.parametrize("name", SMALL)
def test_gates_stand_right_in_networks_of_every_make(name):
    check_gates(drawn({**HAND, **PAPERS, **LIBRARIES}[name]), SIZE, SMALL[name])


REAL = {  # how many branches: counted in the papers, or by the libraries' own attributes
    "torchvision/mobilenet_v2": 10,
    "torchvision/mobilenet_v3_large": 10,
    "torchvision/efficientnet_b0": 9,
    "torchvision/regnet_y_400mf": 16,
    "torchvision/convnext_tiny": 18,
    "torchvision/mnasnet0_5": 10,
    "timm/convnext_atto": 12,
    "timm/resnetv2_50": 16,
    "timm/nf_resnet26": 8,
    "timm/dla34": 12,
    "timm/hrnet_w18_small": 23,
    "timm/rexnet_100": 11,
    "timm/efficientformer_l1": 30,
    "timm/swin_tiny_patch4_window7_224": 24,
}


def built(name: str) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network without weights, and a size of pictures: 64 px where it takes any."""
    library, _, model = name.partition("/")
    make = torchvision.models.get_model if library == "torchvision" else timm.create_model
    net = drawn(lambda: make(model))
    own = tuple(getattr(net, "pretrained_cfg", {}).get("input_size", (3, 224, 224)))
    return net, own if model.startswith(("swin", "efficientformer")) else (3, 64, 64)


# A minute and more each on two cores: WHATWHERE_LARGE=1 runs them.
LARGE = {"torchvision/convnext_tiny", "timm/swin_tiny_patch4_window7_224", "timm/efficientformer_l1"}
LARGE |= {
    "torchvision/mnasnet0_5",
    "torchvision/efficientnet_b0",
    "timm/nf_resnet26",
    "timm/dla34",
}  # `make coverage` too


@pytest.mark.parametrize("name", [pytest.param(n, marks=on_demand if n in LARGE else ()) for n in REAL])
def test_gates_stand_right_in_networks_of_the_libraries(name):
    check_gates(*built(name), REAL[name])


def test_the_count_of_a_high_resolution_network_is_that_of_its_blocks():
    net, _ = built("timm/hrnet_w18_small")
    assert sum(type(m).__name__ in ("BasicBlock", "Bottleneck") for m in net.modules()) == REAL["timm/hrnet_w18_small"]


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("timm/resnetv2_50", ("conv3",)),  # by names it stood behind conv2, within the branch
        (
            "timm/efficientformer_l1",
            ("token_mixer", "mlp.norm2", "token_mixer.proj", "mlp.fc2"),
        ),  # by names it stood in the stem
    ],
)
def test_gates_that_stood_wrong_by_names_stand_at_the_ends_of_branches(name, ends):
    net, _ = built(name)
    gated = recalibrate(net, "se", input_size=(3, 64, 64) if "resnet" in name else None)
    assert {r.name.split(".", 4)[-1] for r in gated.surgery.inserted} == set(ends)


# Gates that a network has


def test_gates_that_a_network_has_are_kept_and_named():
    net = drawn(lambda: torchvision.models.mobilenet_v3_small(num_classes=5))
    report = recalibrate(net, "se", input_size=(3, 64, 64)).surgery
    assert len(report.inserted) == 6
    assert report.kept[:2] == ("features.1.block.1", "features.4.block.2")
    assert "keeps 9 gates of its own (features.1.block.1, features.4.block.2, features.5.block.2, …)" in str(report)
    assert "replace=True puts these in their places" in str(report)


def test_gates_that_a_network_has_are_replaced():
    net = drawn(lambda: torchvision.models.mobilenet_v3_small(num_classes=5))
    gated = recalibrate(net, "ms_sar", replace=True, identity_init=True, input_size=(3, 64, 64))
    report = gated.surgery
    assert not report.kept
    assert [r.name for r in report.inserted if not r.before.startswith("SqueezeExcitation")] == ["features.3.block.2.1"]
    assert len(report.inserted) == 10  # nine gates, and the one branch of the six that had none
    place = gated.features[1].block[1]
    assert isinstance(place.layer, nn.Identity)
    assert isinstance(place.gate, MSSAR)
    assert place.gate.channels == 16
    for m in net.modules():  # without gates the network computes what it does with gates of one
        if isinstance(m, torchvision.ops.SqueezeExcitation):
            m.forward = lambda x: x
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(gated(x), net(x))


@pytest.mark.parametrize(("sites", "count"), [("features.4", 1), ("features.4.block.2", 1), ("features.[1-4]", 3)])
def test_gates_to_replace_are_chosen(sites, count):
    net = torchvision.models.mobilenet_v3_small(num_classes=5)
    report = recalibrate(net, "se", replace=True, sites=sites, input_size=(3, 64, 64)).surgery
    assert len(report.inserted) == count
    assert len(report.kept) == 9 - sum(r.before.startswith("SqueezeExcitation") for r in report.inserted)


# What is said of branches and networks that get no gate


class Mixed(nn.Module):
    """A block that ends in a layer, and one in a function of several values."""

    def __init__(self, layers):
        super().__init__()
        self.layers, self.weight = layers, nn.Parameter(torch.randn(3, 3, 1, 1))

    def forward(self, x):
        x = x + self.layers(x)
        return x + nn.functional.conv2d(x, self.weight)


def test_branches_without_a_place_are_on_demand_and_named():
    net = Mixed(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 1)))
    report = recalibrate(net, "se", ratio=1, input_size=(3, 8, 8)).surgery
    assert [r.name for r in report.inserted] == ["layers.2"]
    assert "Left out: the network (conv2d): it ends in functions (conv2d), and no module gives" in str(report)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (HAND["flattened"], "it adds and concatenates no maps"),
        (lambda: timm.create_model("repvgg_a0"), "in 39 places what is added are linear layers of one value"),
        (lambda: torchvision.models.squeezenet1_1(), "in 8 places what is concatenated are parallel paths"),
        (lambda: Mixed(nn.Identity()), "no dense layer: the network .conv2d.: it ends in functions .conv2d."),
        (HAND["functional"], "no spatial feature map flows through the modules"),
    ],
    ids=["flattened", "repvgg", "squeezenet", "in functions", "without modules"],
)
def test_why_a_network_has_no_place_is_said(make, why):
    with pytest.raises(InputError, match=why):
        recalibrate(drawn(make), "se", input_size=SIZE)


def test_replacing_where_there_is_no_gate_is_refused():
    with pytest.raises(InputError, match="replace=True: the network has no module that is a gate already"):
        recalibrate(ww.load_model("cifar/resnet20", classes=10, width=0.5), "se", replace=True)


# Selections


@pytest.mark.parametrize(
    ("sites", "count"),
    [
        ("blocks.1", 2),  # both branches of a block
        ("blocks.1.mlp.fc2", 1),  # one of them, by the layer that ends it
        (["blocks.0", "blocks.5.attn.proj"], 3),
        ("blocks.4:", 4),
        ("*.attn.*", 6),
    ],
)
def test_branches_of_a_block_are_chosen_together_or_one_by_one(sites, count):
    gated = recalibrate(LIBRARIES["vit"](), "se", sites=sites, input_size=SIZE)
    assert len(gated.surgery.inserted) == count


def test_what_was_inserted_can_be_chosen_again_by_its_names():
    for make in (LIBRARIES["vit"], LIBRARIES["densenet"], PAPERS["resnet"]):
        names = [r.name for r in recalibrate(make(), "se", input_size=SIZE).surgery.inserted]
        again = recalibrate(make(), "se", sites=names[1:], input_size=SIZE).surgery
        assert [r.name for r in again.inserted] == names[1:]


def test_a_block_that_runs_twice_has_one_gate_that_runs_twice():
    block = BasicBlock(4, 4)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), block, block).eval()
    gated = recalibrate(net, "se", identity_init=True, input_size=(3, 8, 8))
    assert [r.name for r in gated.surgery.inserted] == ["1.bn2"]
    assert gated[1] is gated[2]
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(gated(x), net(x))
    shut(gated)
    assert branches_gone(gated, x) == 2


def test_a_network_is_traced_once(monkeypatch):
    from whatwhere.graph import flow, trace

    calls = []
    monkeypatch.setattr(flow, "trace", lambda *given: calls.append(given) or trace.trace(*given))
    recalibrate(PAPERS["resnet"](), "se", sites="last 50%", input_size=SIZE)
    assert len(calls) == 1
