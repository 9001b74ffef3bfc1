import copy
import pickle
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.models.squeezenet import SqueezeNet
from torchvision.models.vgg import make_layers

from whatwhere.errors import InputError
from whatwhere.hold.padded import PaddedConv, PaddedMap
from whatwhere.hold.padding import PADDINGS, PaddedPool, PaddingReport, with_padding
from whatwhere.hold.padding_calls import padding_calls
from whatwhere.hold.shortcuts import FittedShortcut
from whatwhere.interventions import Intervention
from whatwhere.models.cifar import CifarResNet, make
from whatwhere.network import Network, Preprocessing
from whatwhere.site_table import list_sites
from whatwhere.surgery import edit

SIZE = (3, 12, 10)
FILLS = ("zeros", "reflect", "replicate", "circular")
NUMPY: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


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


# ---- the slow derivation: NumPy pads, the convolution or pool does not


def padded(x: Tensor, rows: int, columns: int, fill: str) -> Tensor:
    amounts = ((0, 0), (0, 0), (rows, rows), (columns, columns))
    return torch.from_numpy(np.pad(x.numpy(), amounts, mode=NUMPY[fill]))


def slow_conv(conv: nn.Conv2d, x: Tensor, amount: tuple[int, int], fill: str) -> Tensor:
    x = padded(x, *amount, fill)
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


CONVS: list[tuple[dict[str, Any], tuple[int, int]]] = [  # arguments; the full padding, worked out by hand
    ({"kernel_size": 3, "padding": 1}, (2, 2)),
    ({"kernel_size": 3, "padding": 1, "stride": 2}, (2, 2)),
    ({"kernel_size": 3, "padding": 2, "dilation": 2}, (4, 4)),
    ({"kernel_size": 3, "padding": (3, 1), "dilation": (3, 1), "stride": (1, 2)}, (6, 2)),
    ({"kernel_size": (1, 5), "padding": (0, 2)}, (0, 4)),
    ({"kernel_size": 5, "padding": 1, "groups": 3, "bias": False}, (4, 4)),
    ({"kernel_size": 1, "padding": 1}, (0, 0)),
    ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, (2, 2)),
    ({"kernel_size": 3, "padding": (1, 2), "padding_mode": "reflect"}, (2, 2)),
]


@pytest.mark.parametrize(("options", "full"), CONVS, ids=str)
@pytest.mark.parametrize("mode", PADDINGS)
def test_a_convolution_against_numpys_padding(mode: Any, options: dict[str, Any], full: tuple[int, int]) -> None:
    conv = nn.Conv2d(3, 6, **options)
    x = torch.randn(2, *SIZE)
    given = options["padding"]
    kept = given if isinstance(given, tuple) else (given, given)
    amount, fill = {"none": ((0, 0), "zeros"), "f-conv": (full, "zeros")}.get(mode, (kept, mode))
    new: Any = with_padding(nn.Sequential(conv).eval(), mode, input_size=SIZE)
    with torch.no_grad():
        torch.testing.assert_close(new(x), slow_conv(conv, x, amount, fill))


@pytest.mark.parametrize("mode", PADDINGS)
def test_padding_in_words(mode: Any) -> None:
    same = nn.Conv2d(3, 3, 3, padding="same", dilation=2)
    valid = nn.Conv2d(3, 3, 3, padding="valid", padding_mode="circular")
    pointwise = nn.Conv2d(3, 3, 1, padding="same", padding_mode="circular")
    new: Any = with_padding(nn.Sequential(same, valid, pointwise).eval(), mode, input_size=SIZE)
    amounts, fill = {"none": ((0, 0), "zeros"), "f-conv": ((4, 2), "zeros")}.get(mode, ((2, 0), mode))
    x = torch.randn(2, *SIZE)
    with torch.no_grad():
        y = slow_conv(same, x, (amounts[0],) * 2, fill)
        y = slow_conv(pointwise, slow_conv(valid, y, (amounts[1],) * 2, fill), (0, 0), "zeros")
        torch.testing.assert_close(new(x), y)
    assert repr(new[2]) == repr(pointwise)


@pytest.mark.parametrize("fill", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((3, 2), 1, (1, 0)),
        nn.MaxPool2d(3, 1, 1, ceil_mode=True),
        nn.AvgPool2d(5, 2, 2),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.MaxPool2d(3, 2, 2 - 1, dilation=2),
    ],
    ids=str,
)
def test_a_pool_against_numpys_padding(pool: Any, fill: Any) -> None:
    x = torch.randn(2, *SIZE)
    bare = copy.deepcopy(pool)
    bare.padding = 0
    rows, columns = pool.padding if isinstance(pool.padding, tuple) else (pool.padding,) * 2
    expected = bare(padded(x, rows, columns, fill))
    new: Any = with_padding(nn.Sequential(pool), fill, input_size=SIZE)
    assert torch.equal(new(x), expected)
    assert new[0].training
    assert torch.equal(with_padding(nn.Sequential(pool), "none", input_size=SIZE)(x), bare(x))  # type: ignore[operator]
    for mode in ("zeros", "f-conv"):
        for start in (nn.Sequential(pool), new):  # back again, too
            assert torch.equal(with_padding(start, mode, input_size=SIZE)(x), pool(x))  # type: ignore[operator, arg-type]


@pytest.mark.parametrize("second", PADDINGS)
@pytest.mark.parametrize("first", FILLS)
def test_the_last_of_two_modes_holds(first: Any, second: Any) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 4, 5, padding=2)).eval()
    size = (3, 32, 32)
    x = torch.randn(2, *size)
    once: Any = with_padding(net, second, input_size=size)
    twice: Any = with_padding(with_padding(net, first, input_size=size), second, input_size=size)
    assert torch.equal(twice(x), once(x))
    assert [type(m) for m in twice] == [type(m) for m in once]


@pytest.mark.parametrize("fill", ["reflect", "replicate", "circular"])
def test_full_padding_can_be_filled_afterwards(fill: Any) -> None:
    conv = nn.Conv2d(3, 4, (3, 5), padding=1)
    full = with_padding(nn.Sequential(conv).eval(), "f-conv", input_size=SIZE)
    new: Any = with_padding(full, fill, input_size=SIZE)
    x = torch.randn(2, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(new(x), slow_conv(conv, x, (2, 4), fill))


def test_a_circular_network_sees_no_borders() -> None:
    net = settled(make("resnet20", classes=5, width=1 / 4)).double()
    wrapped: Any = with_padding(net, "circular", input_size=(3, 32, 32))
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    moved = x.roll((8, -12), (2, 3))  # by multiples of all strides
    with torch.no_grad():
        torch.testing.assert_close(wrapped(moved), wrapped(x))
        assert (net(moved) - net(x)).abs().max() > 1e-3


# ---- residual blocks, by hand


def block_by_hand(block: BasicBlock, x: Tensor, full: bool) -> Tensor:
    """No padding: each 3 x 3 convolution takes a frame of one from the shortcut. Full: each adds one."""
    pad = (2, 2) if full else (0, 0)
    y = F.relu(block.bn1(slow_conv(block.conv1, x, pad, "zeros")))
    y = block.bn2(slow_conv(block.conv2, y, pad, "zeros"))
    shortcut = block.downsample(x) if block.downsample is not None else x
    frame = 2 if block.downsample is None else 1  # at stride 2 the first convolution takes one and a half pixels
    if full:
        canvas = torch.zeros_like(y)
        h, w = shortcut.shape[2:]
        canvas[:, :, frame : frame + h, frame : frame + w] = shortcut
        return F.relu(y + canvas)
    h, w = y.shape[2:]
    return F.relu(y + shortcut[:, :, frame : frame + h, frame : frame + w])


@pytest.mark.parametrize("size", [(14, 14), (15, 18)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["none", "f-conv"])
def test_a_basic_block_by_hand(mode: Any, stride: int, size: tuple[int, int]) -> None:
    projection = nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.BatchNorm2d(6)) if stride == 2 else None
    block = settled(BasicBlock(4, 6 if projection else 4, stride, projection))
    x = torch.randn(2, 4, *size)
    new: Any = with_padding(nn.Sequential(block), mode, input_size=(4, *size))
    with torch.no_grad():
        expected = block_by_hand(block, x, mode == "f-conv")
        torch.testing.assert_close(new(x), expected)
        torch.testing.assert_close(new(torch.cat([x, x], 3)).shape[2], expected.shape[2])  # sizes are known when run
    assert list(new.state_dict()) == list(nn.Sequential(block).state_dict())
    assert isinstance(new[0].downsample, FittedShortcut)
    twice: Any = with_padding(new, mode, input_size=(4, *size))
    with torch.no_grad():
        assert torch.equal(twice(x), new(x))


def test_fitted_shortcuts_follow_copies_and_later_surgery() -> None:
    net = settled(CifarResNet(BasicBlock, [1, 1], 16, classes=4, width=1 / 4))
    new: Any = with_padding(net, "none", input_size=(3, 32, 32))
    for again in (copy.deepcopy(new), pickle.loads(pickle.dumps(new))):
        block = again.layers[1][0]
        assert block.downsample.__dict__["block"] is block
    later, _ = edit(new, {"layers.1.0.conv2": lambda m: nn.Conv2d(8, 8, 1)})
    assert later(torch.randn(1, 3, 32, 32)).shape == (1, 4)
    table = list_sites(new, input_size=(3, 32, 32))
    site = table.select("layers.1.0")[0]
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad(), Intervention(new, {}, {site: lambda maps: maps * 0}):
        assert new(x).shape == (1, 4)


# ---- networks


def timm_resnet() -> nn.Module:
    block = timm.models.resnet.BasicBlock
    return timm.models.resnet.ResNet(block, (1, 1, 1, 1), num_classes=4, channels=(4, 8, 8, 8), stem_width=4)


NETWORKS: dict[str, Any] = {
    "cifar/vgg11": lambda: make("vgg11", classes=4, width=1 / 16),
    "cifar/resnet20": lambda: make("resnet20", classes=4, width=1 / 4),
    "torchvision resnet": lambda: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4),
    "cifar bottleneck": lambda: CifarResNet(Bottleneck, [1, 2], 16, classes=4, width=1 / 4),
    "torchvision vgg": lambda: make_layers([8, "M", 16, "M"], True),
    "squeezenet": lambda: SqueezeNet("1_1", num_classes=4),
    "timm resnet": timm_resnet,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    torch.manual_seed(0)
    net = settled(NETWORKS[name]())
    padded_layers = [
        n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d) and m.padding not in (0, (0, 0))
    ]
    state = copy.deepcopy(net.state_dict())
    side = {"torchvision resnet": 224, "timm resnet": 224, "cifar/vgg11": 160, "cifar/resnet20": 96}.get(name, 64)
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        before, outputs = net(x), {}
        for mode in PADDINGS:
            if name == "squeezenet" and mode in ("none", "f-conv"):
                continue
            new: Any = with_padding(net, mode, input_size=tuple(x.shape[1:]))  # type: ignore[arg-type]
            outputs[mode] = new(x)
            assert all(torch.equal(v, state[k]) for k, v in new.state_dict().items())
            assert list(new.state_dict()) == list(state)
            if mode in ("reflect", "replicate", "circular"):
                assert [r.name for r in new.surgery.replaced] == padded_layers
        assert torch.equal(outputs["zeros"], before)
        others = [outputs[m] for m in outputs if m != "zeros"]
        assert all(o.isfinite().all() and (o.shape != before.shape or not torch.equal(o, before)) for o in others)
        assert torch.equal(net(x), before)


def test_the_original_is_untouched_and_nothing_is_shared() -> None:
    net = settled(timm_resnet()).train()
    net.layer1[0].eval()
    state, flags, shown = copy.deepcopy(net.state_dict()), [m.training for m in net.modules()], repr(net)
    inner = {n: copy.copy(m.__dict__.get("_reversed_padding_repeated_twice")) for n, m in net.named_modules()}
    rng = torch.get_rng_state()
    for mode in PADDINGS:
        new: Any = with_padding(net, mode, input_size=(3, 224, 224))
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
        assert [m.training for m in net.modules()] == flags
        assert repr(net) == shown
        assert {n: m.__dict__.get("_reversed_padding_repeated_twice") for n, m in net.named_modules()} == inner
        assert not hasattr(net, "surgery")
        assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in new.parameters()}
        kept = {n: m.training for n, m in new.named_modules()}
        assert all(kept[n] == m.training for n, m in net.named_modules())
        if mode == "f-conv":
            assert (kept["layer1.0.downsample"], kept["layer2.0.downsample"]) == (False, True)
    assert torch.equal(rng, torch.get_rng_state())


def test_nothing_to_change_is_a_plain_copy() -> None:
    net = make("vgg11", classes=4, width=1 / 16).eval()
    new: Any = with_padding(net, "zeros", input_size=(3, 32, 32))
    assert new is not net
    assert new.surgery == PaddingReport("zeros", (3, 32, 32), ())
    assert str(new.surgery) == "padding zeros: 0 modules changed; runs on (3, 32, 32)."


def test_a_network_stays_one() -> None:
    given = Network(make("vgg11", classes=4, width=1 / 16), Preprocessing(mean=(0.1,)), "cifar/vgg11", (3, 32, 32))
    new: Any = with_padding(given, "circular")
    assert isinstance(new, Network)
    assert (new.name, new.preprocessing) == ("cifar/vgg11 + padding circular", given.preprocessing)
    assert new.input_size == (3, 32, 32)
    larger: Any = with_padding(given, "none", input_size=(3, 160, 160))
    assert larger.input_size == (3, 160, 160)
    assert given.input_size == (3, 32, 32)


def test_the_report() -> None:
    block = BasicBlock(4, 4).eval()
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2, 1), block)
    new: Any = with_padding(net, "reflect", input_size=(3, 16, 16))
    assert [r.name for r in new.surgery.replaced] == ["1", "2.conv1", "2.conv2"]
    assert isinstance(new[1], PaddedPool)
    assert "-> PaddedPool(padding=(1, 1), mode=reflect)[MaxPool2d(" in str(new.surgery).split("\n")[1]
    new = with_padding(net, "none", input_size=(3, 32, 32))
    assert [r.name for r in new.surgery.replaced] == ["1", "2.conv1", "2.conv2", "2.downsample"]
    assert str(new.surgery.replaced[-1]) == "2.downsample: None -> FittedShortcut()"


# ---- refused


class OwnForward(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight - self.weight.mean(), padding=self.padding)  # type: ignore[arg-type]


SHARED = nn.MaxPool2d(3, 2, 1)
REFUSED: list[tuple[Any, str, str]] = [
    (nn.ConvTranspose2d(3, 3, 3, padding=1), "circular", "0, a ConvTranspose2d.*transposed"),
    (OwnForward(3, 3, 3, padding=1), "reflect", r"0, a OwnForward: it has a forward.*replace it by nn\.Conv2d"),
    (nn.Conv2d(3, 3, 2, padding="same"), "circular", r"'same' is asymmetric for kernel \(2, 2\).*odd kernel"),
    (timm.layers.BlurPool2d(3), "zeros", "0, a BlurPool2d: it pads by itself"),
    (nn.ReflectionPad2d(1), "circular", "0, a ReflectionPad2d: it pads by itself"),
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), "circular", "ceil_mode"),
    (nn.Sequential(SHARED, nn.Sequential(SHARED)), "circular", r"0\.0: this MaxPool2d pads.*several names"),
]


@pytest.mark.parametrize(("layer", "mode", "message"), REFUSED, ids=lambda v: type(v).__name__)
def test_layers_that_cannot_be_changed(layer: nn.Module, mode: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_padding(nn.Sequential(layer).eval(), mode, input_size=(3, 32, 32))


@pytest.mark.parametrize(
    ("layer", "mode"),
    [
        (nn.ConvTranspose2d(3, 3, 3, padding=1), "zeros"),
        (nn.ConvTranspose2d(3, 3, 3), "circular"),
        (OwnForward(3, 3, 3, padding=1), "zeros"),
        (OwnForward(3, 3, 1), "f-conv"),
        (timm.layers.Conv2dSame(3, 3, 1), "none"),
        (timm.layers.create_pool2d("max", 3, 2, padding="same"), "f-conv"),
        (nn.ReflectionPad2d(1), "reflect"),
        (timm.layers.BlurPool2d(3), "reflect"),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), "f-conv"),
        (nn.AdaptiveAvgPool2d(2), "none"),
        (nn.Conv2d(3, 3, 3), "circular"),
        (nn.MaxPool2d(3), "reflect"),
    ],
    ids=str,
)
def test_layers_that_can_stay(layer: nn.Module, mode: Any) -> None:
    net = nn.Sequential(layer).eval()
    new: Any = with_padding(net, mode, input_size=(3, 32, 32))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(new(x), net(x))
    assert not new.surgery.replaced


def test_an_asymmetric_same_can_lose_its_padding() -> None:
    conv = nn.Conv2d(3, 3, 2, padding="same")
    x = torch.randn(1, *SIZE)
    with torch.no_grad():
        new: Any = with_padding(nn.Sequential(conv).eval(), "none", input_size=SIZE)
        torch.testing.assert_close(new(x), slow_conv(conv, x, (0, 0), "zeros"))


def test_a_pool_alone_and_an_unknown_mode() -> None:
    with pytest.raises(InputError, match="net: this MaxPool2d pads, and it is the whole network"):
        with_padding(nn.MaxPool2d(3, 2, 1), "circular", input_size=SIZE)
    with pytest.raises(InputError, match=r"mode='circlar' matches nothing.*'circular'"):
        with_padding(nn.Sequential(nn.Conv2d(3, 3, 3)), "circlar")  # type: ignore[arg-type]


def test_maps_that_shrink_to_nothing() -> None:
    net = make("vgg11", classes=4, width=1 / 16).eval()
    with pytest.raises(InputError, match=r"mode='none'.*\(3, 32, 32\).*maps shrink.*input_size=\(3, 160, 160\)"):
        with_padding(net, "none", input_size=(3, 32, 32))
    with_padding(net, "none", input_size=(3, 160, 160))


def test_maps_that_are_too_small_to_reflect() -> None:
    net = nn.Sequential(nn.MaxPool2d(8), nn.Conv2d(3, 3, 7, padding=3)).eval()
    with pytest.raises(InputError, match=r"mode='reflect'.*too small for its padding.*input_size=\(3, 32, 32\)"):
        with_padding(net, "reflect", input_size=(3, 16, 16))


@pytest.mark.parametrize("mode", ["none", "f-conv"])
def test_concatenations_that_do_not_fit(mode: Any) -> None:
    net = DenseNet(4, (2, 2), 8, num_classes=3).eval()
    with pytest.raises(InputError, match=f"mode='{mode}'.*concatenations.*choose circular, reflect or replicate"):
        with_padding(net, mode, input_size=(3, 64, 64))


def test_a_network_that_does_not_run_anyway_says_so() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(5, 4, 3)).eval()
    with pytest.raises(InputError, match=r"does not run on a picture of shape \(3, 12, 10\) \(C, H, W\): .*Give input"):
        with_padding(net, "circular", input_size=SIZE)


def test_weights_that_are_not_finite_get_no_other_padding():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    net[0].weight.data[0] = torch.nan
    with pytest.raises(InputError, match=r"net: 0\.weight holds NaN"):
        with_padding(net, "reflect", input_size=(3, 8, 8))


# ---- timm's own convolutions, modules that only pad, and the count


def test_timms_own_convolutions_in_a_network() -> None:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=4).eval()
    x = torch.randn(2, 3, 96, 96)
    new: Any = with_padding(net, "reflect", input_size=(3, 96, 96))
    assert new.surgery.changed == {"Conv2dSame": 5, "Conv2d": 12}
    assert type(new) is type(net)
    assert list(new.state_dict()) == list(net.state_dict())
    assert isinstance(new.conv_stem, PaddedConv)
    with torch.no_grad():
        stem = F.conv2d(padded_around(x, (0, 1), (0, 1), "reflect"), net.conv_stem.weight, None, 2)
        torch.testing.assert_close(new.conv_stem(x), stem)
        back: Any = with_padding(new, "zeros", input_size=(3, 96, 96))
        assert torch.equal(back(x), net(x))
    assert [type(m) for m in back.modules()] == [type(m) for m in net.modules()]


def padded_around(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], fill: str) -> Tensor:
    return torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), rows, columns), mode=NUMPY[fill]))


@pytest.mark.parametrize(("mode", "message"), [("none", "maps shrink.*that additions"), ("f-conv", "maps grow")])
def test_where_what_is_added_does_not_fit_any_more_it_is_refused(mode: Any, message: str) -> None:
    net = timm.create_model("tf_mobilenetv3_small_minimal_100", num_classes=4).eval()
    with pytest.raises(InputError, match=message):
        with_padding(net, mode, input_size=(3, 64, 64))


SAME: list[tuple[Any, Any]] = [  # a layer with "same" padding, and the same layer without any
    (timm.layers.Conv2dSame(3, 3, 3, stride=2), nn.Conv2d(3, 3, 3, 2)),
    (timm.layers.Conv2dSame(3, 3, 4, stride=3, bias=False), nn.Conv2d(3, 3, 4, 3, bias=False)),
    (StdConv2dSame(3, 3, 3, stride=2), timm.layers.StdConv2d(3, 3, 3, 2, padding=0)),
    (ScaledStdConv2dSame(3, 3, 5, stride=2), timm.layers.ScaledStdConv2d(3, 3, 5, 2, padding=0)),
    (nn.Conv2d(3, 3, 3, padding="same"), nn.Conv2d(3, 3, 3)),
    (nn.Conv2d(3, 3, 4, padding="same", dilation=(1, 2)), nn.Conv2d(3, 3, 4, dilation=(1, 2))),
    (timm.layers.create_pool2d("max", 3, 2, padding="same"), nn.MaxPool2d(3, 2)),
    (timm.layers.create_pool2d("avg", 3, 2, padding="same", count_include_pad=False), nn.AvgPool2d(3, 2)),
    (timm.layers.create_pool2d("max", 2, 2, padding="same"), nn.MaxPool2d(2)),
]


@pytest.mark.parametrize(("layer", "bare"), SAME, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("size", [(3, 17, 16), (3, 12, 13)])
def test_same_padding_without(layer: Any, bare: Any, size: Any) -> None:
    """The map shrinks, as it does without padding in numbers, and nothing pads any more."""
    bare.load_state_dict(layer.state_dict())
    net, x = nn.Sequential(layer).eval(), torch.randn(2, *size)
    new: Any = with_padding(net, "none", input_size=size)
    with torch.no_grad():
        assert torch.equal(new(x), bare.eval()(x))
        for start in ("reflect", "circular"):  # from another mode, too
            if layer.kernel_size not in ((4, 4),) or type(layer) is not nn.Conv2d:
                again: Any = with_padding(with_padding(net, start, input_size=size), "none", input_size=size)  # type: ignore[arg-type]
                assert torch.equal(again(x), bare(x))
        assert torch.equal(copy.deepcopy(new)(x), new(x))
    assert list(new.state_dict()) == list(net.state_dict())
    assert not [c for c in padding_calls(new, size) if c.positions]
    assert [c for c in padding_calls(net, size) if c.positions] or layer.kernel_size in (2, (2, 2))


def test_timms_networks_with_same_padding_and_without() -> None:
    net = timm.create_model("tf_efficientnet_lite0", num_classes=4).eval()
    stem = nn.Sequential(net.conv_stem, net.bn1, nn.MaxPool2d(2))
    new: Any = with_padding(stem, "none", input_size=(3, 33, 33))
    assert new.surgery.changed == {"Conv2dSame": 1}
    assert type(new[0]) is nn.Conv2d


def test_standardised_convolutions_in_every_mode() -> None:
    net = nn.Sequential(
        timm.layers.ScaledStdConv2d(3, 4, 3, padding=1), nn.ReLU(), timm.layers.StdConv2d(4, 4, 3)
    ).eval()
    x = torch.randn(2, *SIZE)
    with torch.no_grad():
        for mode in PADDINGS:
            new: Any = with_padding(net, mode, input_size=SIZE)
            once = new(x)
            assert torch.equal(with_padding(new, mode, input_size=SIZE)(x), once)  # type: ignore[operator]
            assert once.shape[2:] == {"none": (8, 6), "f-conv": (16, 14)}.get(mode, SIZE[1:])
        assert torch.equal(with_padding(net, "zeros", input_size=SIZE)(x), net(x))  # type: ignore[operator]


@pytest.mark.parametrize("layer", [nn.ZeroPad2d((1, 2, 0, 3)), nn.ConstantPad2d((1, 2, 0, 3), 0.0)], ids=repr)
@pytest.mark.parametrize("mode", PADDINGS)
def test_a_layer_that_adds_zeros(mode: Any, layer: nn.Module) -> None:
    net = nn.Sequential(layer, nn.Conv2d(3, 3, 3)).eval()
    x = torch.randn(2, *SIZE)
    new: Any = with_padding(net, mode, input_size=SIZE)
    around = {"none": x, "f-conv": padded_around(x, (0, 3), (1, 2), "zeros")}
    with torch.no_grad():
        expected = around[mode] if mode in around else padded_around(x, (0, 3), (1, 2), mode)
        assert torch.equal(new[0](x), expected)
        back: Any = with_padding(new, "zeros", input_size=SIZE)
        assert torch.equal(back[0](x), layer(x))
    assert type(new[0]) is (type(layer) if mode in ("zeros", "f-conv") else PaddedMap)


def test_other_constants_are_refused_as_before_and_so_is_a_lone_layer() -> None:
    with pytest.raises(InputError, match="0, a ConstantPad2d: it pads by itself"):
        with_padding(nn.Sequential(nn.ConstantPad2d(1, 0.5)), "circular", input_size=SIZE)
    with pytest.raises(InputError, match="net: this Conv2dSame pads, and it is the whole network"):
        with_padding(timm.layers.Conv2dSame(3, 3, 3, stride=2), "circular", input_size=SIZE)


def test_padding_that_is_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from whatwhere.hold import padding, padding_operators

    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Unfold(3, padding=1))
    with_padding(net, "reflect", input_size=SIZE)
    nothing = lambda module, *_, **__: padding_operators.Changed(module)  # noqa: E731
    monkeypatch.setattr(padding, "change_operators", nothing)
    with pytest.raises(
        InputError, match=r"of 1, a Unfold: F\.unfold still pads with zeros there \(1 such calls in all"
    ):
        with_padding(net, "reflect", input_size=SIZE)
    assert with_padding(net, "zeros", input_size=SIZE)


def test_the_report_counts_kinds() -> None:
    block = BasicBlock(4, 4).eval()
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(3, 2, 1), block)
    assert with_padding(net, "reflect", input_size=(3, 16, 16)).surgery.changed == {"MaxPool2d": 1, "Conv2d": 2}  # type: ignore[union-attr]
    assert with_padding(net, "none", input_size=(3, 32, 32)).surgery.changed["shortcut"] == 1  # type: ignore[union-attr, index]


def test_shortcuts_that_were_fitted_with_zeros_are_no_place_to_begin() -> None:
    net = nn.Sequential(BasicBlock(4, 4)).eval()
    full = with_padding(net, "f-conv", input_size=(4, 16, 16))
    with pytest.raises(InputError, match=r"0\.downsample, a FittedShortcut: F\.pad still.*as it was before f-conv"):
        with_padding(full, "reflect", input_size=(4, 16, 16))
