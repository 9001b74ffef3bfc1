from collections import Counter
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
import torch

from whatwhere.data.known_answer import ARRANGEMENTS, BAGS, WHERE_BAG, known_answer, render, texture_bank
from whatwhere.data.split import Split
from whatwhere.errors import InputError


def windows(picture: np.ndarray, side: int = 3) -> Counter[bytes]:
    """The multiset of all windows, zero padding included, by loops."""
    padded = np.pad(picture, side // 2)
    height, width = picture.shape
    return Counter(padded[r : r + side, c : c + side].tobytes() for r in range(height) for c in range(width))


def clean(textures: list[tuple[int, ...]], seed: int) -> np.ndarray:
    """Pictures without noise that share phases, brightness and contrast."""
    phases = np.random.default_rng(seed).integers(0, 4, (1, 8, 2)).repeat(len(textures), 0)
    same = np.ones(len(textures), dtype=np.int64)
    return render(np.array(textures), phases, 0 * same, 40 * same)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [3, 5])
def test_where_classes_have_the_same_small_windows(seed: int, side: int) -> None:
    pictures = clean([tuple(WHERE_BAG[i] for i in order) for order in ARRANGEMENTS], seed)
    histograms = [windows(picture, side) for picture in pictures]
    assert all(histogram == histograms[0] for histogram in histograms)
    assert len({picture.tobytes() for picture in pictures}) == 12  # and yet every class looks different


@pytest.mark.parametrize("seed", range(3))
def test_what_classes_differ_in_small_windows_wherever_they_lie(seed: int) -> None:
    histograms = [windows(picture) for picture in clean(list(BAGS), seed)]
    moved = [windows(picture) for picture in clean([bag[::-1] for bag in BAGS], seed)]
    assert all(a != b for a, b in combinations(histograms, 2))
    assert histograms == moved


def test_strided_windows_do_not_tell_arrangements_apart() -> None:
    pictures = clean([tuple(WHERE_BAG[i] for i in order) for order in ARRANGEMENTS], 0)
    for stride in (2, 4, 8, 16):
        grid = [(r, c) for r in range(0, 28, stride) for c in range(0, 28, stride)]
        seen = {tuple(sorted(p[r : r + 5, c : c + 5].tobytes() for r, c in grid)) for p in pictures}
        assert len(seen) == 1, stride


def test_no_texture_and_no_pair_gives_the_class_away() -> None:
    assert len(set(BAGS)) == 12
    assert {len(set(a) & set(b)) for a, b in combinations(BAGS, 2)} == {0, 2}
    assert set(Counter(texture for bag in BAGS for texture in bag).values()) == {6}
    for size in (1, 2):
        counts = Counter(part for bag in BAGS for part in combinations(bag, size))
        assert min(counts.values()) >= 2


def test_textures_are_balanced_and_all_different() -> None:
    bank = texture_bank()
    assert bank.shape == (8, 4, 4, 8, 8)
    assert not bank.sum((-1, -2)).any()
    shown = [{p.tobytes() for p in texture.reshape(16, 64)} for texture in bank]
    assert all(not a & b for a, b in combinations(shown, 2))


def responses(split: Split) -> torch.Tensor:
    """One random 3x3 convolution, ReLU, global average; standardised by nothing: (N, 65) with a constant."""
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(64, 3, 3, 3, generator=g), -2 * torch.rand(64, generator=g)
    x = torch.cat([x for x, _ in split.batches(300)]).float().sub(128).div(40)
    features = torch.nn.functional.conv2d(x, weight, bias, padding=1).relu().mean((2, 3))
    return torch.cat([features, torch.ones(len(x), 1)], 1).double()


@pytest.mark.parametrize(("task", "least", "most"), [("what", 0.95, 1.0), ("where", 0.0, 0.18)])
def test_local_windows_and_an_average_solve_what_only(
    task: Literal["what", "where"], least: float, most: float
) -> None:
    data = known_answer(task, train=1200, test=360)
    a, b = responses(data.train), responses(data.test)
    targets = torch.nn.functional.one_hot(data.train.labels, 12).double()
    weights = torch.linalg.solve(a.T @ a + 1e-3 * torch.eye(65), a.T @ targets)
    accuracy = ((b @ weights).argmax(1) == data.test.labels).double().mean().item()
    assert least <= accuracy <= most


@pytest.mark.parametrize("task", ["what", "where"])
def test_draws_are_balanced_repeatable_and_disjoint(task: Literal["what", "where"]) -> None:
    data, again, other = (known_answer(task, train=120, test=60, seed=seed) for seed in (3, 3, 4))
    assert torch.bincount(data.train.labels).tolist() == [10] * 12
    assert torch.bincount(data.test.labels).tolist() == [5] * 12
    assert len(data.classes) == len(set(data.classes)) == 12
    assert data.describe() == again.describe()
    assert data.train.fingerprint != other.train.fingerprint
    train, test = (next(split.batches(120))[0] for split in (data.train, data.test))
    assert not {x.numpy().tobytes() for x in train} & {x.numpy().tobytes() for x in test}
    assert train.shape == (120, 3, 32, 32)
    assert 16 <= int(train.min()) < 60 < 190 < int(train.max()) <= 240  # the whole range, nothing wraps


def test_draws_are_golden() -> None:
    prints = [known_answer(task, train=24, test=12).describe()["fingerprints"] for task in ("what", "where")]
    assert prints == [
        {"train": "c9210aa62f6b64c6", "test": "1d345a63eff0c47f"},
        {"train": "ee72f279e27b6236", "test": "c4871554b0ebd1b5"},
    ]


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match=r"task='wher'.*'where'"):
        known_answer("wher")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="test=0"):
        known_answer("what", test=0)
