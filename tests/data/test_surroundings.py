from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.data.known_answer import TEXTURES, nuisances, render, texture_bank
from whatwhere.data.load import load_data
from whatwhere.data.surroundings import PLACES, QUADRANTS, A, B, G, H, M, N, layout, surroundings
from whatwhere.errors import InputError
from whatwhere.models.bagnet import BagNet
from whatwhere.models.cifar import initialise
from whatwhere.use import recalibrate


def clean(s: int, g: int, seed: int) -> np.ndarray:
    """A picture without noise; phases, brightness, contrast and places depend on the seed alone."""
    drawn = nuisances(1, np.random.default_rng(seed))
    places = layout(np.array([s]), np.array([g]), np.random.default_rng(seed))
    return render(places, *drawn, places=PLACES)[0]


def tiles(picture: np.ndarray, side: int) -> Counter[bytes]:
    """The multiset of windows side by side, by loops."""
    height, width = picture.shape
    corners = product(range(0, height, side), range(0, width, side))
    return Counter(picture[r : r + side, c : c + side].tobytes() for r, c in corners)


def quarters(picture: np.ndarray, side: int) -> Counter[frozenset[tuple[bytes, int]]]:
    """The multiset of the quadrants' multisets."""
    return Counter(frozenset(tiles(picture[r : r + 16, c : c + 16], side).items()) for r in (0, 16) for c in (0, 16))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("side", [2, 4, 8])
def test_all_windows_together_tell_the_context_only(seed: int, side: int) -> None:
    seen = {(s, g): tiles(clean(s, g, seed), side) for s in (0, 1) for g in (0, 1)}
    assert seen[0, 0] == seen[1, 0] != seen[0, 1] == seen[1, 1]


@pytest.mark.parametrize("seed", range(3))
def test_quadrants_tell_the_pairs(seed: int) -> None:
    seen = [quarters(clean(s, g, seed), 8) for s in (0, 1) for g in (0, 1)]
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])


def texture_at(patch: np.ndarray) -> int:
    """The texture that a noisy patch (8, 8) goes along with best at any phase; -1 for grey."""
    bank = texture_bank().reshape(len(TEXTURES), 16, 64)
    along = (bank @ (patch - patch.mean()).reshape(64) / 64).max(1)
    return int(along.argmax()) if along.max() > 12 else -1


def answer(picture: np.ndarray) -> int:
    """The class, by its definition."""
    here = [texture_at(picture[r : r + 8, c : c + 8]) for r, c in PLACES]
    bags = [set(here[i : i + 4]) for i in range(0, 16, 4)]
    s = 0 if any({A, M} <= bag for bag in bags) else 1
    assert any({(A, B)[s], M} <= bag for bag in bags)
    assert any({(B, A)[s], N} <= bag for bag in bags)
    g = int(H in set(here))
    assert sum((H if g else G) in bag for bag in bags) == 2
    return s ^ g


def test_the_label_is_what_the_definition_says() -> None:
    images, labels = next(surroundings(train=8, test=64).test.batches(64))
    grey = images.double().mean(1).numpy()
    assert [answer(picture) for picture in grey] == labels.tolist()


def test_a_sum_over_quadrants_is_right_for_seven_eighths_at_most() -> None:
    """Every weighting of the four (s, g), as far as signs matter, by enumeration."""
    steps = np.linspace(-1, 1, 9)
    a0, a1, b0, b1 = np.meshgrid(steps, steps, steps, steps)
    share = {0: 3 / 8, 1: 1 / 8}
    right = sum(
        share[g] * ((a + b > 0.01) == bool(s ^ g)) for s, a in ((0, a0), (1, a1)) for g, b in ((0, b0), (1, b1))
    )
    assert right.max() == 7 / 8


def test_pairs_and_context_are_drawn_independently() -> None:
    n = 800
    rng = np.random.default_rng(0)
    s, g = np.arange(n) % 2, np.arange(n) // 2 % 2
    drawn = layout(s, g, rng).reshape(n, 4, 4)
    for row, i, j in zip(drawn, s, g, strict=True):
        assert Counter(tuple(sorted(q)) for q in row) == Counter(tuple(sorted(q)) for q in QUADRANTS[i, j])
    where_m = np.argwhere(drawn == M)  # (picture, quadrant, place)
    assert np.bincount(where_m[:, 1]).min() > n / 4 * 0.8
    assert np.bincount(where_m[:, 2]).min() > n / 4 * 0.8


def test_draws_are_balanced_repeatable_and_disjoint() -> None:
    data, again, other = (surroundings(train=80, test=40, seed=seed) for seed in (3, 3, 4))
    assert torch.bincount(data.train.labels).tolist() == [40, 40]
    assert torch.bincount(data.test.labels).tolist() == [20, 20]
    assert data.describe() == again.describe()
    assert data.train.fingerprint != other.train.fingerprint
    train, test = (next(split.batches(80))[0] for split in (data.train, data.test))
    assert not {x.numpy().tobytes() for x in train} & {x.numpy().tobytes() for x in test}
    assert train.shape == (80, 3, 32, 32)
    assert 16 <= int(train.min()) < 60 < 190 < int(train.max()) <= 240  # the whole range, nothing wraps


def test_draws_are_golden() -> None:
    assert surroundings(train=24, test=16).describe()["fingerprints"] == {
        "train": "685fe28c43575875",
        "test": "d9ee1c7fd9202027",
    }


def test_it_has_a_name() -> None:
    data = load_data("known/surroundings")
    assert (data.name, len(data.train), len(data.test), len(data.classes)) == ("known/surroundings", 6000, 2000, 2)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(InputError, match="test=0"):
        surroundings(test=0)


# What the task is for: a network that sees its surroundings solves it, one that does not cannot

RECIPE = ww.Recipe(epochs=5, batch_size=32, optimizer="adamw", lr=0.005, crop_padding=0, flip=False)


def settled(net: ww.Network) -> nn.Module:
    """In evaluation mode, with norm statistics of its own, so that no norm is the identity."""
    module = net.module.train()
    with torch.no_grad():
        module(torch.randn(64, 3, 32, 32))
    return module.eval()


def rearranged(x: torch.Tensor, window: int = 4) -> torch.Tensor:
    """The same windows at other places."""
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // window, window, w // window, window).permute(2, 4, 0, 1, 3, 5).flatten(0, 1)
    mixed = tiles[torch.randperm(len(tiles))].unflatten(0, (h // window, w // window))
    return mixed.permute(2, 3, 0, 4, 1, 5).reshape(n, c, h, w)


@pytest.mark.parametrize("method", [None, "se", "ms_sar"])
def test_only_surrounding_regions_distinguish_the_same_windows(method):
    torch.manual_seed(0)
    net = ww.load_model("cifar/bagnet4", classes=5)
    module = settled(net if method is None else recalibrate(net, method))
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        difference = (module(x) - module(rearranged(x))).abs().max() / module(x).std()
    assert (difference > 1e-3) == (method == "ms_sar")
    assert method == "ms_sar" or difference < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("method", "least", "most"), [("ms_sar", 0.9, 1.0), ("se", 0.4, 0.6)])
def test_ms_sar_learns_it_and_squeeze_and_excitation_stays_at_chance(pictures, method, least, most):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = ww.Network(initialise(BagNet(8, 3, 64, classes=2)))  # a position for each patch: quick to train
    net = recalibrate(plain, method, ratio=4, input_size=(3, 32, 32))
    ww.fit(net, pictures.train, RECIPE, device="cpu")
    assert least <= ww.evaluate(net, pictures.test).accuracy <= most


@pytest.fixture(scope="module")
def pictures() -> Data:
    return surroundings(train=3000, test=400)
