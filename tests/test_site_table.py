import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.models.squeezenet import SqueezeNet
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from whatwhere.errors import InputError
from whatwhere.models.cifar import make
from whatwhere.site import Site, Sites
from whatwhere.site_table import list_sites
from whatwhere.use import recalibrate

SMALL = (3, 32, 32)


@pytest.fixture(scope="module")
def vgg() -> Sites:
    return list_sites(make("vgg16", classes=10, width=1 / 16), input_size=SMALL)


@pytest.fixture(scope="module")
def resnet() -> Sites:
    return list_sites(ResNet(BasicBlock, [1, 1, 1, 1], num_classes=5), input_size=(3, 64, 64))


def names(found: list[Site]) -> list[str]:
    return [s.name for s in found]


class Recorder:
    """An independent slow look at a network: what enters each leaf, in order."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        self.inputs: list[tuple[str, tuple[int, ...]]] = []
        handles = [
            m.register_forward_pre_hook(lambda _m, a, n=n: self.inputs.append((n, tuple(a[0].shape[1:]))))
            for n, m in net.named_modules()
            if n
        ]
        with torch.no_grad():
            net.eval()(x)
        for h in handles:
            h.remove()


def test_order_and_shapes_are_those_of_the_execution() -> None:
    net = make("resnet20", classes=10, width=1 / 4)
    seen = [(n, s) for n, s in Recorder(net, torch.zeros(1, *SMALL)).inputs if len(s) == 3 and s[1] * s[2] > 1]
    table = list_sites(net, input_size=SMALL)
    assert [(s.module, s.shape_in) for s in table] == seen
    assert [s.order for s in table] == list(range(len(table)))


def test_shape_is_that_of_the_output(vgg: Sites) -> None:
    by_name = {s.name: s for s in vgg}
    assert (by_name["features.0"].shape_in, by_name["features.0"].shape) == ((3, 32, 32), (4, 32, 32))
    assert (by_name["features.6"].shape_in, by_name["features.6"].shape) == ((4, 32, 32), (4, 16, 16))
    assert by_name["features.43"].shape is None  # the last max-pool: 2 x 2 to 1 x 1


def test_a_module_that_runs_twice_has_a_call_index(resnet: Sites) -> None:
    calls = [s for s in resnet if s.module == "layer1.0.relu"]
    assert [(s.name, s.call) for s in calls] == [("layer1.0.relu#1", 1), ("layer1.0.relu#2", 2)]
    between = [s.name for s in resnet if calls[0].order < s.order < calls[1].order]
    assert between == ["layer1.0.conv2", "layer1.0.bn2"]
    assert "relu" in [s.name for s in resnet]  # the stem's runs once


def test_kinds_and_parents(resnet: Sites) -> None:
    kinds = {s.name: s.kind for s in resnet}
    assert kinds["conv1"] == "conv"
    assert kinds["layer2.0.downsample.0"] == "conv1x1"
    assert kinds["layer2.0.bn1"] == "norm"
    assert kinds["layer2.0.relu#1"] == "act"
    assert kinds["maxpool"] == "pool"
    assert kinds["layer2.0"] == "block"
    assert kinds["layer2"] == "group"
    assert next(s for s in resnet if s.name == "layer2.0.conv1").parents == ("layer2", "layer2.0")


def test_depth_share_of_vgg16_is_the_papers(vgg: Sites) -> None:
    convs = vgg.of_kind("conv")
    assert len(convs) == 13
    assert [s.depth_share for s in convs] == pytest.approx([(13 - i) / 13 for i in range(13)])
    assert names([s for s in vgg.select("last 30%") if s.is_spatial_conv]) == names(list(convs)[-4:])
    assert names([s for s in vgg.select("last 53%") if s.is_spatial_conv]) == names(list(convs)[-7:])
    assert len([s for s in vgg.select("last 29.9%") if s.is_spatial_conv]) == 3
    assert vgg.select("last 100%") == list(vgg)


def test_depth_share_counts_linear_layers_where_there_are_no_convolutions() -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2)
    table = list_sites(net, input_size=(3, 16, 16))
    linears = [n for n, m in net.named_modules() if isinstance(m, nn.Linear)]  # in order of execution; head included
    share = {s.name: s.depth_share for s in table}
    for i, name in enumerate(linears[:-1]):
        assert share[name] == pytest.approx((len(linears) - i) / len(linears))


@pytest.mark.parametrize(
    "make_net",
    [
        lambda: make("vgg16", classes=7, width=1 / 16),
        lambda: make("resnet50", classes=7, width=1 / 16),
        lambda: SqueezeNet("1_1", num_classes=5),
        lambda: timm.create_model("mobilenetv3_small_050", num_classes=5),  # groups
        lambda: timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=56, embed_dim=8, depths=(1, 1), num_heads=(1, 2)
        ),
    ],
)
def test_flops_are_those_of_torchs_counter(make_net: Any) -> None:
    net = make_net().eval()
    size = (3, 56, 56)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *size))
    by_operator = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    counted = sum(n for op, n in by_operator.items() if "conv" in op or ("mm" in op and "bmm" not in op))
    table = list_sites(net, input_size=size)
    assert table.total_flops == counted
    assert table[0].flops_before == 0


def test_flops_before_add_up_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, groups=2), nn.ReLU())
    table = list_sites(net, input_size=(3, 9, 8))
    first = 2 * 4 * 9 * 8 * (3 * 9)
    second = 2 * 6 * 4 * 3 * (2 * 9)
    assert [s.flops_before for s in table] == [0, first, first, first + second]
    assert table.total_flops == first + second


# ---- layouts


def layouts(net: nn.Module, size: tuple[int, int, int]) -> dict[str, tuple[str, tuple[int, int, int]]]:
    return {s.name: (s.layout, s.shape_in) for s in list_sites(net, input_size=size)}


@pytest.mark.parametrize("size", [(3, 32, 32), (3, 32, 64)])
def test_torchvision_swin_is_nhwc(size: tuple[int, int, int]) -> None:
    h, w = size[1] // 4, size[2] // 4
    seen = layouts(SwinTransformer([4, 4], 16, [1, 1], [2, 2], [4, 4], num_classes=3), size)
    assert seen["features.0.0"] == ("NCHW", size)
    assert seen["features.0.1"] == ("NCHW", (16, h, w))  # the permutation itself
    for name in ("features.0.2", "features.1", "features.1.0", "features.1.0.attn", "features.1.0.mlp", "features.2"):
        assert seen[name] == ("NHWC", (16, h, w)), name
    assert seen["features.1.0.mlp.1"] == ("NHWC", (64, h, w))
    assert seen["norm"] == ("NHWC", (32, h // 2, w // 2))
    assert seen["avgpool"] == ("NCHW", (32, h // 2, w // 2))


def test_timm_swin_is_nhwc() -> None:
    net = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=(56, 28), embed_dim=16, depths=(1, 1), num_heads=(2, 2), num_classes=3
    )
    seen = layouts(net, (3, 56, 28))
    assert seen["patch_embed.norm"] == seen["layers.0"] == seen["layers.0.blocks.0"] == ("NHWC", (16, 14, 7))
    assert seen["layers.1.downsample"] == ("NHWC", (16, 14, 7))
    assert seen["norm"] == seen["head"] == ("NHWC", (32, 7, 4))


@pytest.mark.parametrize("qk_norm", [False, True])
def test_timm_vit_has_a_class_token(qk_norm: bool) -> None:
    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=(16, 24), patch_size=8, embed_dim=8, depth=2, num_heads=2, qk_norm=qk_norm
    )
    seen = layouts(net, (3, 16, 24))
    assert seen["patch_embed.proj"] == ("NCHW", (3, 16, 24))
    assert seen["blocks.0"] == seen["blocks.1"] == seen["norm"] == ("tokens+1", (8, 2, 3))
    assert not {n for n in seen if "q_norm" in n}  # (N, heads, tokens, dim) is no map


def test_torchvision_vit() -> None:
    seen = layouts(VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3), SMALL)
    assert seen["encoder.layers.encoder_layer_0"] == ("tokens+1", (16, 4, 4))


@pytest.mark.parametrize("size", [(3, 32, 32), (3, 32, 48)])
def test_convnexts_two_kinds_of_layer_norm(size: tuple[int, int, int]) -> None:
    h, w = size[1] // 4, size[2] // 4
    seen = layouts(ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=3), size)
    assert seen["features.0.1"] == ("NCHW", (8, h, w))  # LayerNorm2d
    assert seen["features.1.0"] == ("NCHW", (8, h, w))
    assert seen["features.1.0.block.2"] == seen["features.1.0.block.3"] == ("NHWC", (8, h, w))
    assert seen["features.1.0.block.4"] == ("NHWC", (32, h, w))
    assert seen["features.2.0"] == ("NCHW", (8, h, w))


@pytest.mark.parametrize("method", ["ms_sar", "se", "ms_sar-bilinear"])
def test_linear_layers_of_a_gate_say_nothing_of_what_leaves_it(method: str) -> None:
    """Maps whose sides differ from their channels: read in the wrong order, columns would be taken for channels."""
    net = make("resnet20", classes=10, width=1 / 2)
    name, _, upsample = method.partition("-")
    gated = recalibrate(net, name, **({"upsample": upsample} if upsample else {}))
    plain, found = list_sites(net, input_size=SMALL), {s.name: s for s in list_sites(gated, input_size=SMALL)}
    for site in plain:
        now = found[site.name]
        assert (now.layout, now.shape_in, now.shape) == (site.layout, site.shape_in, site.shape)


def test_as_many_channels_as_rows_is_still_nchw() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))
    assert set(layouts(net, (3, 8, 6)).values()) == {("NCHW", (3, 8, 6)), ("NCHW", (8, 8, 6))}


def test_a_convolution_inside_attention_takes_a_map() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.conv(x))

    assert layouts(nn.ModuleDict({"attn": Attention()})["attn"], (3, 6, 5))["conv"] == ("NCHW", (3, 6, 5))
    net = nn.Sequential()
    net.add_module("attn", Attention())
    assert "attn.conv" in layouts(net, (3, 6, 5))


# ---- selections


def test_tracing_leaves_no_trace() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Dropout(), nn.ReLU(inplace=True)))
    net.train()
    net[1].eval()
    state = copy.deepcopy(net.state_dict())
    flags = {n: m.training for n, m in net.named_modules()}
    rng = torch.get_rng_state()
    hooks = {n: [(k, dict(v)) for k, v in vars(m).items() if "hooks" in k] for n, m in net.named_modules()}
    list_sites(net, input_size=(3, 8, 8))
    assert all(torch.equal(state[k], v) for k, v in net.state_dict().items())
    assert {n: m.training for n, m in net.named_modules()} == flags
    assert torch.equal(rng, torch.get_rng_state())
    assert {n: [(k, dict(v)) for k, v in vars(m).items() if "hooks" in k] for n, m in net.named_modules()} == hooks


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_tracing_leaves_no_trace_after_an_exception(error: type[Exception]) -> None:
    class Breaks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.rand(1)
            raise error("broken")

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Breaks()).train()
    rng = torch.get_rng_state()
    with pytest.raises(InputError if error is RuntimeError else error, match="broken"):
        list_sites(net, input_size=(3, 8, 8))
    assert net.training
    assert net[1].training
    assert not any(v for m in net.modules() for k, v in vars(m).items() if "hooks" in k)
    assert torch.equal(rng, torch.get_rng_state())


def test_a_wrong_input_size_is_explained() -> None:
    with pytest.raises(InputError, match=r"shape \(1, 8, 8\).*input_size"):
        list_sites(nn.Sequential(nn.Conv2d(3, 4, 3)), input_size=(1, 8, 8))


def test_a_network_without_maps_is_refused() -> None:
    with pytest.raises(InputError, match="no spatial feature map"):
        list_sites(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), input_size=(4, 1, 1))


def test_maps_that_are_not_square_though_the_picture_is() -> None:
    """Two rows and two channels of three columns: no channels-last shape in a network that has none."""
    net = nn.Sequential(nn.Conv2d(3, 3, (1, 4), padding=0), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    seen = layouts(net, (3, 3, 5))
    assert seen["1"] == ("NCHW", (3, 3, 2))
    square = nn.Sequential(nn.Conv2d(3, 5, (1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(75, 2))
    assert layouts(square, (3, 5, 5))["1"] == ("NCHW", (5, 5, 3))


def test_weights_that_are_not_finite_have_no_table() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3))
    net[0].bias.data[1] = torch.nan
    with pytest.raises(InputError, match=r"net: 0\.bias holds NaN"):
        list_sites(net, input_size=(3, 8, 8))


def test_pictures_of_one_pixel_are_named_as_the_cause():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU()).eval()
    with pytest.raises(InputError, match="the pictures are 1 x 1 pixels"):
        list_sites(net, input_size=(3, 1, 1))
