"""ESPNet by what was published: the names and shapes in its file of weights, and the sums that they enter."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import whatwhere as ww
from whatwhere.models.load import load_model

ROOT = Path(__file__).parents[2]
DILATIONS = (1, 2, 4, 8, 16)


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def norm_act(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {**norm(f"{name}.bn", channels), f"{name}.act.weight": (channels,)}


def spread(name: str, kernel: int, inputs: int, fifth: int, first: int) -> dict[str, tuple[int, ...]]:
    widths = {d: first if d == 1 else fifth for d in DILATIONS}
    return {
        f"{name}.c1.conv.weight": (fifth, inputs, kernel, kernel),
        **{f"{name}.d{d}.conv.weight": (w, fifth, 3, 3) for d, w in widths.items()},
    }


# In the file of the CamVid weights (p = 2, q = 8), written down from it.
PUBLISHED: dict[str, tuple[int, ...]] = {
    "encoder.level1.conv.weight": (16, 3, 3, 3),
    **norm_act("encoder.level1", 16),
    **norm_act("encoder.b1", 19),
    **spread("encoder.level2_0", 3, 19, 12, 16),
    **norm_act("encoder.level2_0", 64),
    **{k: v for i in range(2) for k, v in spread(f"encoder.level2.{i}", 1, 64, 12, 16).items()},
    **{k: v for i in range(2) for k, v in norm_act(f"encoder.level2.{i}.bn", 64).items()},
    **norm_act("encoder.b2", 131),
    **spread("encoder.level3_0", 3, 131, 25, 28),
    **norm_act("encoder.level3_0", 128),
    **{k: v for i in range(8) for k, v in spread(f"encoder.level3.{i}", 1, 128, 25, 28).items()},
    **{k: v for i in range(8) for k, v in norm_act(f"encoder.level3.{i}.bn", 128).items()},
    **norm_act("encoder.b3", 256),
    "encoder.classifier.conv.weight": (12, 256, 1, 1),
    "level3_C.conv.weight": (12, 131, 1, 1),
    **norm("br", 12),
    "up_l3.0.weight": (12, 12, 2, 2),
    **norm_act("combine_l2_l3.0", 24),
    **spread("combine_l2_l3.1", 1, 24, 2, 4),
    **norm_act("combine_l2_l3.1.bn", 12),
    "up_l2.0.weight": (12, 12, 2, 2),
    **norm_act("up_l2.1", 12),
    "conv.conv.weight": (12, 31, 3, 3),
    **norm_act("conv", 12),
    "classifier.weight": (12, 12, 2, 2),
}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> str:
    """The network's name, as the commands take it in the root of the repository."""
    monkeypatch.chdir(ROOT)
    return "reproductions.espnet.espnet"


def drawn() -> dict[str, Tensor]:
    """Values for all published tensors, of a size at which every path shows in the scores."""
    g = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in PUBLISHED.items():
        values = torch.randn(shape, generator=g, dtype=torch.float64)
        state[name] = values.abs() + 0.5 if name.endswith("running_var") else values / max(1, values[0].numel()) ** 0.5
    return state


def test_the_published_names_and_shapes(named: str) -> None:
    own = load_model(f"{named}:camvid").module.state_dict()
    assert {n: tuple(t.shape) for n, t in own.items() if not n.endswith("num_batches_tracked")} == PUBLISHED
    assert len(PUBLISHED) == 189
    learned = [t.numel() for n, t in own.items() if "running" not in n and "tracked" not in n]
    assert 350_000 < sum(learned) < 365_000  # about 0.36 million [paper]


def test_the_scores_are_those_of_plain_sums(named: str) -> None:
    state = drawn()
    void, kept = (load_model(f"{named}:{f}") for f in ("with_void", "camvid"))
    for net in (void, kept):
        net.module.double().load_state_dict(state, strict=False)
    x = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        scores, expected = void.module(x), Plain(state)(x)
        assert torch.allclose(scores, expected, rtol=1e-9, atol=1e-12)
        assert expected.std() > 0.01
        assert torch.equal(kept.module(x), scores[:, :11])
    assert (*kept.classes, "unlabelled") == void.classes


def test_pictures_are_prepared_as_published(named: str) -> None:
    """Blue first, (x - mean) / std of bytes; the network divides by 255 once more."""
    net = ww.load_model(f"{named}:camvid")
    picture = torch.tensor([[10, 20, 30]], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [(30 - 109.94) / 77.91, (20 - 108.08) / 79.07, (10 - 104.80) / 78.03]
    assert net.prepared(picture).flatten().tolist() == pytest.approx(expected, abs=1e-5)


class Plain:
    """The network by its tensors' names alone."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias, mean, var = (
            self.state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + 1e-3).sqrt() * weight + bias

    def norm_act(self, name: str, x: Tensor) -> Tensor:
        x = self.norm(f"{name}.bn", x)
        return torch.where(x >= 0, x, x * self.state[f"{name}.act.weight"][:, None, None])

    def conv(self, name: str, x: Tensor, stride: int = 1, d: int = 1) -> Tensor:
        kernel = self.state[f"{name}.conv.weight"]
        return functional.conv2d(x, kernel, None, stride, d * (kernel.shape[-1] // 2), d)

    def spread(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        x = self.conv(f"{name}.c1", x, stride)
        maps = [self.conv(f"{name}.d{d}", x, d=d) for d in DILATIONS]
        sums = [maps[1], maps[1] + maps[2], sum(maps[1:4]), sum(maps[1:])]
        return torch.cat([maps[0], *sums], 1)  # type: ignore[list-item]

    def twice(self, name: str, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        up = torch.einsum("nchw,cokl->nohkwl", x, self.state[f"{name}.weight"])
        return up.reshape(n, -1, 2 * h, 2 * w)

    def smaller(self, x: Tensor) -> Tensor:
        """3 x 3 averages at every second place, zeros beyond the border."""
        padded = functional.pad(x, (1, 1, 1, 1))
        h, w = x.shape[2:]
        windows = [padded[:, :, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]
        return torch.stack(windows).mean(0)

    def __call__(self, x: Tensor) -> Tensor:
        x = x / 255
        half = torch.cat([self.norm_act("encoder.level1", self.conv("encoder.level1", x, 2)), self.smaller(x)], 1)
        half = self.norm_act("encoder.b1", half)
        first = last = self.norm_act("encoder.level2_0", self.spread("encoder.level2_0", half, 2))
        for i in range(2):
            last = self.norm_act(f"encoder.level2.{i}.bn", last + self.spread(f"encoder.level2.{i}", last))
        quarter = self.norm_act("encoder.b2", torch.cat([last, first, self.smaller(self.smaller(x))], 1))
        first = last = self.norm_act("encoder.level3_0", self.spread("encoder.level3_0", quarter, 2))
        for i in range(8):
            last = self.norm_act(f"encoder.level3.{i}.bn", last + self.spread(f"encoder.level3.{i}", last))
        deep = self.conv("encoder.classifier", self.norm_act("encoder.b3", torch.cat([first, last], 1)))
        joined = torch.cat([self.conv("level3_C", quarter), self.twice("up_l3.0", self.norm("br", deep))], 1)
        joined = self.spread("combine_l2_l3.1", self.norm_act("combine_l2_l3.0", joined))
        joined = self.twice("up_l2.0", self.norm_act("combine_l2_l3.1.bn", joined))
        joined = torch.cat([self.norm_act("up_l2.1", joined), half], 1)
        return self.twice("classifier", self.norm_act("conv", self.conv("conv", joined)))
