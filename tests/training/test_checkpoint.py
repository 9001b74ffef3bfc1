import errno
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from small_disk import small_files
from whatwhere.errors import InputError
from whatwhere.training import checkpoint
from whatwhere.training.checkpoint import Progress

RECIPE = {"epochs": 3, "milestones": (1, 2), "lr": 0.1}


def progress(seed: int = 0, width: int = 2, steps: int = 2) -> Progress:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1 + seed, momentum=0.9)
    for _ in range(steps):
        net(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
    draws = torch.Generator().manual_seed(seed)
    torch.rand(seed, generator=draws)
    return Progress(net, optimizer, {"pictures": draws}, seed, [{"loss": float(seed)}])


def test_everything_comes_back(tmp_path: Path) -> None:
    one = progress(3)
    checkpoint.save(tmp_path / "c.pt", one, RECIPE, seed=1)
    expected = torch.rand(2), torch.rand(2, generator=one.generators["pictures"])
    other = progress(4)
    checkpoint.load(tmp_path / "c.pt", other, RECIPE, seed=1)
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(other.module.state_dict()[name], tensor)
    assert other.optimizer.param_groups[0]["lr"] == 3.1
    for a, b in zip(one.optimizer.state.values(), other.optimizer.state.values(), strict=True):
        assert torch.equal(a["momentum_buffer"], b["momentum_buffer"])
    assert (other.epoch, other.history) == (3, [{"loss": 3.0}])
    assert torch.equal(torch.rand(2), expected[0])
    assert torch.equal(torch.rand(2, generator=other.generators["pictures"]), expected[1])


@pytest.mark.parametrize(
    ("recipe", "about", "message"),
    [
        ({**RECIPE, "lr": 0.2}, {"seed": 1}, r"lr \(0\.1 there, 0\.2 now\)"),
        (RECIPE, {"seed": 2}, r"seed \(1 there, 2 now\)"),
        ({**RECIPE, "new": 1}, {"seed": 1}, "another recipe"),
        ({**RECIPE, "new": 1}, {"seed": 1}, r"recipe: new \(nothing there, 1 now\)"),
        ({**RECIPE, "ema": 0.9}, {"seed": 1}, r"recipe: ema \(0\.0 there, 0\.9 now\)"),
        ({**RECIPE, "crop_area": (0.1, 1.0)}, {"seed": 1}, r"crop_area \(None there, \(0\.1, 1\.0\) now\)"),
        ({k: v for k, v in RECIPE.items() if k != "lr"}, {"seed": 1}, r"recipe: lr \(0\.1 there, nothing now\)"),
    ],
)
def test_another_recipe_or_seed_is_refused_and_nothing_changed(
    tmp_path: Path, recipe: dict[str, object], about: dict[str, int], message: str
) -> None:
    checkpoint.save(tmp_path / "c.pt", progress(3), RECIPE, seed=1)
    other = progress(4)
    before = {k: v.clone() for k, v in other.module.state_dict().items()}
    with pytest.raises(InputError, match=f"c.pt was written under another recipe: .*{message}.*delete it|{message}"):
        checkpoint.load(tmp_path / "c.pt", other, recipe, **about)
    assert all(torch.equal(before[k], v) for k, v in other.module.state_dict().items())
    assert other.epoch == 4


def test_a_checkpoint_from_before_the_seed_was_kept_is_read(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", progress(3), RECIPE)
    state = torch.load(tmp_path / "c.pt")
    del state["about"]
    torch.save(state, tmp_path / "c.pt")
    other = progress(4)
    checkpoint.load(tmp_path / "c.pt", other, RECIPE, seed=1)
    assert other.epoch == 3


def test_what_a_checkpoint_says_nothing_of_is_the_same(tmp_path: Path) -> None:
    """Options that came later are left out while they are as before; what is told of a training grew, too."""
    checkpoint.save(tmp_path / "c.pt", progress(3), {**RECIPE, "milestones": [1, 2]}, seed=1)
    other = progress(4)
    checkpoint.load(tmp_path / "c.pt", other, {**RECIPE, "fused": False}, seed=1, told_later="something")
    assert other.epoch == 3


def test_numbers_of_numpy_are_kept_as_pythons(tmp_path: Path) -> None:
    recipe = {**RECIPE, "lr": np.float64(0.1)}
    checkpoint.save(tmp_path / "c.pt", progress(3), recipe, preprocessing={"mean": [np.float32(0.5)]})
    other = progress(4)
    checkpoint.load(tmp_path / "c.pt", other, RECIPE, preprocessing={"mean": (0.5,)})
    assert other.epoch == 3


def test_another_network_or_source_of_draws_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", progress(3), RECIPE)
    with pytest.raises(InputError, match=r"cannot be used .*size mismatch.*delete it to start this training again"):
        checkpoint.load(tmp_path / "c.pt", progress(3, width=5), RECIPE)
    other = progress(3)
    other.generators = {**other.generators, "shuffle": torch.Generator()}
    with pytest.raises(InputError, match=r"cannot be used .*shuffle"):
        checkpoint.load(tmp_path / "c.pt", other, RECIPE)


def damage(whole: bytes, how: str) -> bytes:
    half = len(whole) // 2
    return {
        "empty": b"",
        "text": b"no checkpoint\n" * 9,
        "half": whole[:half],
        "pickle": pickle.dumps([1], 2),
        "code": pickle.dumps(os.system, 2),
        "zeros": whole[:half] + bytes(len(whole) - half),
    }[how]


@pytest.mark.parametrize("how", ["empty", "text", "half", "pickle", "code", "zeros"])
def test_a_damaged_file_names_itself_and_the_fix(tmp_path: Path, how: str) -> None:
    file = tmp_path / "c.pt"
    checkpoint.save(file, progress(), RECIPE)
    file.write_bytes(damage(file.read_bytes(), how))
    with pytest.raises(InputError, match=r"c\.pt cannot be used .*; delete it to start this training again"):
        checkpoint.load(file, progress(), RECIPE)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be used"):
        checkpoint.load(tmp_path, progress(), RECIPE)


@pytest.mark.parametrize("where", ["replace", "disk"])
def test_a_failed_write_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    file = tmp_path / "c.pt"
    checkpoint.save(file, progress(3), RECIPE)
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "replace":
        monkeypatch.setattr(os, "replace", full)
    expected = "No space left on device" if where == "replace" else "File too large"
    said = rf"cannot write .*c\.pt: {expected}\. Free some space"
    with small_files(1000 if where == "disk" else 10**9), pytest.raises(InputError, match=said):
        checkpoint.save(file, progress(4), RECIPE)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
