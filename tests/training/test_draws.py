"""What dropout draws from: seeded, and given back as it was; of a GPU by a generator that stands for its own."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from whatwhere.network import Network
from whatwhere.training import draws
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe

RECIPE = Recipe(epochs=3, batch_size=5, lr=0.05, crop_padding=1)


def test_seeding_is_undone_also_by_an_error() -> None:
    other, before = torch.Generator().manual_seed(4), torch.get_rng_state()
    kept = other.get_state()
    with draws.seeded(1), draws.seeded_too({"a": other}, 2):
        drawn = torch.rand(1), torch.rand(1, generator=other)
    assert drawn == tuple(torch.rand(1, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    with contextlib.suppress(ZeroDivisionError), draws.seeded(1), draws.seeded_too({"a": other}, 2):
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(other.get_state(), kept)


def test_each_kind_of_device_has_its_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, apple = (torch.Generator() for _ in range(3))
    monkeypatch.setattr(torch.cuda, "default_generators", (one, two))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch, "mps", SimpleNamespace(_get_default_mps_generator=lambda: apple))
    assert draws.of_device(torch.device("cpu")) == {}
    assert draws.of_device(torch.device("cuda:0"))["cuda"] is one
    assert draws.of_device(torch.device("cuda"))["cuda"] is two
    assert draws.of_device(torch.device("mps"))["mps"] is apple


class Drops(nn.Module):
    """Dropout that draws as on a GPU: from a generator that is not the CPU's."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand(x.shape, generator=self.generator) < 0.5) * 2 if self.training else x

    def __repr__(self) -> str:
        return "Drops()"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.Generator:
    generator = torch.Generator().manual_seed(99)
    monkeypatch.setattr(draws, "of_device", lambda device: {"cuda": generator})
    return generator


def trained(pictures: Any, gpu: torch.Generator, file: Path | None = None, stop: int | None = None) -> Tensor:
    def on_step(done: int, total: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Flatten(), Drops(gpu), nn.Linear(108, 3)))
    fit(net, pictures(), RECIPE, seed=1, device="cpu", file=file, on_step=on_step)
    return net.module[2].weight.detach().clone()  # type: ignore[index, operator, no-any-return, union-attr]


def test_dropout_on_a_gpu_depends_on_the_seed_alone(pictures: Any, gpu: torch.Generator, tmp_path: Path) -> None:
    """Whatever ran before, and also after an interruption; the caller's generator stays."""
    expected = trained(pictures, gpu)
    torch.rand(7, generator=gpu)
    before = gpu.get_state()
    assert torch.equal(trained(pictures, gpu), expected)
    assert torch.equal(gpu.get_state(), before)
    with pytest.raises(KeyboardInterrupt):
        trained(pictures, gpu, tmp_path / "c.pt", stop=6)
    assert torch.equal(gpu.get_state(), before)
    torch.rand(7, generator=gpu)
    assert torch.equal(trained(pictures, gpu, tmp_path / "c.pt"), expected)


def test_a_checkpoint_without_a_gpus_generator_goes_on(
    pictures: Any, gpu: torch.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One from before it was kept, or of a CPU; and one of a GPU on a CPU."""
    file = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(pictures, gpu, file, stop=6)
    state = torch.load(file)
    assert state["layer_generators"].keys() == {"cuda"}
    monkeypatch.setattr(draws, "of_device", lambda device: {})
    assert trained(pictures, gpu, file).isfinite().all()
    monkeypatch.setattr(draws, "of_device", lambda device: {"cuda": gpu})
    del state["layer_generators"]
    torch.save(state, file)
    assert trained(pictures, gpu, file).isfinite().all()
