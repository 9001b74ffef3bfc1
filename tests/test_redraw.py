import warnings
from collections.abc import Callable

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.swin_transformer import SwinTransformerBlockV2
from torchvision.ops import FrozenBatchNorm2d

from whatwhere.errors import InputError
from whatwhere.network import Network
from whatwhere.redraw import OWN, untrained, untrained_notes
from whatwhere.use.insert import recalibrate

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
FRESH = (0.0, 1.0, 1e-6, 1e-5, 1e-4)  # constants of fresh networks, and those of logit_scale


def trained(net: nn.Module) -> nn.Module:
    """Random values everywhere, as after a training that changed everything."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, t in [*net.named_parameters(), *net.named_buffers()]:
            if t.is_floating_point() and not name.endswith(("_mask", "_table")):
                t.copy_(0.5 + torch.rand(t.shape, generator=generator))
    return net


def tensors(net: nn.Module) -> dict[str, Tensor]:
    saved = net.state_dict()
    return {n: t for n, t in saved.items() if t.is_floating_point() and not n.endswith(("_mask", "_table"))}


def assert_nothing_stays(net: nn.Module, fresh: nn.Module, constants: tuple[float, ...] = FRESH) -> None:
    before, after = tensors(net), tensors(fresh)
    assert before.keys() == after.keys()
    for name, old in before.items():
        new = after[name].flatten()
        assert new.isfinite().all(), name
        values = new.unique()
        if len(values) == 1 and old.numel() > 1:
            assert any(abs(values.item() - c) < 1e-4 * max(c, 1e-3) for c in constants), (name, values.item())
        elif old.numel() >= 30:
            assert abs(torch.corrcoef(torch.stack([old.flatten(), new]))[0, 1]) < 0.7, name
        assert not (new == old.flatten()).any() or len(values) == 1, name


def correlation(a: Tensor, b: Tensor) -> float:
    return abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).detach())[0, 1].item())


class Doubled(nn.Module):
    """A parametrization that cannot be turned round."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


def pruned_norm(conv: nn.Module) -> None:
    weight_norm(conv)
    prune.l1_unstructured(conv, "weight_v", 0.3)


DRESSINGS: dict[str, Callable[[nn.Module], object]] = {
    "plain": lambda c: None,
    "pruned": lambda c: prune.l1_unstructured(c, "weight", 0.3),
    "pruned twice": lambda c: (prune.l1_unstructured(c, "weight", 0.3), prune.random_unstructured(c, "weight", 0.3)),
    "channels pruned": lambda c: prune.ln_structured(c, "weight", 0.5, n=2, dim=0),
    "weight norm": weight_norm,
    "weight norm of another axis": lambda c: weight_norm(c, dim=1),
    "pruned weight norm": pruned_norm,
    "spectral norm": spectral_norm,
    "parametrised weight norm": parametrizations.weight_norm,
    "parametrised spectral norm": parametrizations.spectral_norm,
    "both": lambda c: parametrizations.spectral_norm(parametrizations.weight_norm(c)),
    "orthogonal": parametrizations.orthogonal,
    "doubled": lambda c: parametrize.register_parametrization(c, "weight", Doubled()),
}


@pytest.mark.parametrize("kind", DRESSINGS)
def test_reparametrised_layers_are_drawn_anew(kind: str) -> None:
    torch.manual_seed(5)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3)).eval()
    DRESSINGS[kind](net[0])
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.5)
    x = torch.randn(4, 3, 9, 9)
    net(x)  # a pruned weight norm lags a pass behind
    before = net(x).detach()  # what hooks compute holds a graph
    fresh, again, other = untrained(net, 0), untrained(net, 0), untrained(net, 1)
    assert torch.equal(net(x).detach(), before)
    assert set(fresh.state_dict()) == set(net.state_dict())
    with torch.no_grad():
        assert correlation(fresh[0](x), net[0](x)) < 0.5
        assert torch.equal(fresh(x), again(x))
        assert not torch.equal(fresh(x), other(x))
        assert correlation(fresh[0].weight, net[0].weight) < 0.3
        assert 0.05 < fresh[0](x).std() < 5  # neither gone nor huge


@pytest.mark.parametrize("kind", ["pruned", "weight norm", "parametrised weight norm", "parametrised spectral norm"])
def test_the_draws_are_those_of_the_plain_layer(kind: str) -> None:
    torch.manual_seed(5)
    plain, dressed = nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Sequential(nn.Conv2d(3, 8, 3))
    DRESSINGS[kind](dressed[0])
    drawn, fresh = untrained(plain, 3)[0], untrained(dressed, 3)[0]
    assert torch.equal(fresh.bias, drawn.bias)
    if kind == "pruned":
        assert torch.equal(fresh.weight_orig, drawn.weight)
        assert torch.equal(fresh.weight, drawn.weight * fresh.weight_mask)
    elif "spectral" in kind:
        sigma = torch.linalg.matrix_norm(drawn.weight.flatten(1), 2)
        assert torch.allclose(fresh.eval().weight, drawn.weight / sigma, atol=0.02)
    else:
        assert torch.allclose(fresh.weight, drawn.weight, atol=1e-6)


def test_masks_cut_as_much_elsewhere() -> None:
    conv = nn.Conv2d(3, 32, 3)
    prune.ln_structured(conv, "weight", 0.5, n=2, dim=0)
    fresh = untrained(nn.Sequential(conv), 0)[0]
    rows, before = (c.weight_mask.flatten(1).unique(dim=1) for c in (fresh, conv))
    assert rows.shape == (32, 1)  # whole channels still
    assert rows.sum() == before.sum() == 16
    assert not torch.equal(rows, before)


def vision(name: str) -> nn.Module:
    family, _, rest = name.partition("/")
    if family == "timm":
        return timm.create_model(rest, num_classes=4)
    if rest == "swin":
        shape = {"patch_size": [4, 4], "embed_dim": 24, "depths": [2], "num_heads": [2], "window_size": [8, 8]}
        return torchvision.models.SwinTransformer(**shape, block=SwinTransformerBlockV2, num_classes=4)
    return torchvision.models.ConvNeXt([CNBlockConfig(16, None, 2)], num_classes=4)


@pytest.mark.parametrize(
    "name",
    [
        "timm/test_convnext",
        "timm/test_vit",
        "timm/test_nfnet",
        "timm/test_resnet",
        "timm/xcit_nano_12_p16_224",
        "timm/test_mambaout",
        "torchvision/swin",
        "torchvision/convnext",
    ],
)
def test_nothing_stays_in_networks_of_libraries(name: str) -> None:
    net = trained(vision(name))
    fresh = untrained(net, 0)
    assert_nothing_stays(net, fresh, (*FRESH, 2.302585))
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), untrained(net, 0).parameters(), strict=True))


def test_library_parameters_are_as_in_a_new_network() -> None:
    net = untrained(trained(timm.create_model("test_convnext")), 0)
    scales = {n: p for n, p in net.named_parameters() if n.endswith("gamma")}
    new = dict(timm.create_model("test_convnext").named_parameters())
    assert scales
    assert all(torch.equal(p, new[n]) for n, p in scales.items())
    assert "test_convnext of timm's" in net.surgery.unusual


def test_frozen_batch_norm_is_a_fresh_one() -> None:
    net = trained(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), FrozenBatchNorm2d(8)))
    fresh = untrained(Network(net), 0)
    norm = fresh.module[1]
    assert [t.unique().tolist() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)] == [
        [1.0],
        [0.0],
        [0.0],
        [1.0],
    ]
    assert_nothing_stays(net, fresh.module)
    assert "1.weight, 1.bias" in fresh.module.surgery.unusual
    assert "fresh batch norm" in fresh.module.surgery.unusual


class Gain(nn.Module):
    def __init__(self, value: Tensor, buffer: bool = False, persistent: bool = True) -> None:
        super().__init__()
        if buffer:
            self.register_buffer("level", value, persistent=persistent)
        else:
            self.level = nn.Parameter(value)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.level


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (Gain(torch.tensor(0.3)), r"parameter 1.level \(\)"),
        (Gain(torch.rand(8, 1, 1)), "parameter 1.level"),
        (Gain(1 + torch.rand(8, 5, 5) / 100), "parameter 1.level"),  # in any order it is what was learned
        (Gain(torch.rand(8, 1, 1), buffer=True), r"buffer 1.level.*persistent=False"),
        (Gain(torch.rand(8, 5, 5), buffer=True), "buffer 1.level"),
    ],
)
def test_what_no_rule_fits_is_refused_by_name(part: nn.Module, name: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), part)
    with pytest.raises(InputError, match=f"untrained: the {name}") as caught:
        untrained(net, 0)
    assert "\n" not in str(caught.value)
    assert "give Gain a method reset_parameters" in str(caught.value)
    with pytest.raises(InputError, match="untrained=0"):
        untrained_notes(net)


def test_the_class_that_is_named_is_one_that_the_user_can_change() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = nn.ParameterList([nn.Parameter(torch.rand(1)) for _ in range(2)])

        def reset_parameters(self) -> None:
            for level in self.levels if self.fixed else ():
                nn.init.ones_(level)

    net = nn.Sequential(Levels())
    net[0].fixed = False
    with pytest.raises(InputError, match=r"parameter 0\.levels\.0 .*give Levels a method reset_parameters"):
        untrained(net, 0)
    net[0].fixed = True
    assert [p.item() for p in untrained(net, 0).parameters()] == [1.0, 1.0]


def test_what_the_message_advises_works() -> None:
    class Reset(Gain):
        def reset_parameters(self) -> None:
            nn.init.ones_(self.level)

    assert untrained(nn.Sequential(Reset(torch.rand(8))), 0)[0].level.unique().tolist() == [1.0]
    constant = nn.Sequential(Gain(torch.rand(8, 1, 1), buffer=True, persistent=False))
    assert torch.equal(untrained(constant, 0)[0].level, constant[0].level)


def test_a_layer_that_draws_only_a_part_of_what_it_has_is_not_trusted() -> None:
    class Scaled(nn.Conv2d):
        def __init__(self) -> None:
            super().__init__(3, 8, 3)
            self.gain = nn.Parameter(torch.rand(8, 1, 1, 1))

    with pytest.raises(InputError, match=r"parameter 0\.gain"):
        untrained(nn.Sequential(Scaled()), 0)


def test_hand_written_norms_constants_and_weights_of_unknown_meaning() -> None:
    class ChannelNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.rand(8)), nn.Parameter(torch.rand(8))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.attention = ChannelNorm(), nn.MultiheadAttention(8, 2)
            self.position = nn.Parameter(torch.randn(1, 9, 8))
            self.register_buffer("mean", torch.rand(1, 3, 1, 1))

    net = Net()
    fresh = untrained(net, 0)
    assert fresh.norm.weight.unique().tolist() == [1.0]
    assert fresh.norm.bias.unique().tolist() == [0.0]
    assert correlation(fresh.attention.in_proj_weight, net.attention.in_proj_weight) < 0.3
    assert torch.equal(fresh.position.flatten().sort().values, net.position.flatten().sort().values)
    assert correlation(fresh.position, net.position) < 0.5
    assert torch.equal(fresh.mean, net.mean)
    drawn = fresh.surgery.drawn
    assert "attention.in_proj_weight" in drawn[OWN]
    assert ("position",) in drawn.values()
    assert ("mean",) in drawn.values()


def test_gates_of_ours_are_drawn_anew() -> None:
    from whatwhere.models.cifar import make

    net = recalibrate(make("resnet20", width=0.25, classes=3), "ms_sar", weights="per-cell", input_size=(3, 32, 32))
    fresh = untrained(trained(net), 0)
    assert_nothing_stays(net, fresh)
    assert list(fresh.surgery.drawn) == [OWN]


def test_redraws_every_parameter_and_leaves_the_given_network_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net[1].running_mean.fill_(3.0)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh, again, other = untrained(net, 0), untrained(net, 0), untrained(net, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))
    assert not torch.equal(fresh[0].weight, net[0].weight)
    assert not torch.equal(fresh[0].weight, other[0].weight)
    assert fresh[1].running_mean.unique().tolist() == [0.0]
    assert fresh.surgery.unusual == ""
    assert untrained_notes(net) == []
