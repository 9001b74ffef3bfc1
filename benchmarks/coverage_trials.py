"""Data whose truth is known, and the interval that the package computes from them: a trial for every kind.

A trial draws data, and gives both ends of the interval and the truth; `coverage.py` repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from whatwhere.intervals import Estimate, over_networks, over_pictures, over_scores
from whatwhere.lab.rows import accuracy, accuracy_of_counts, difference, difference_of_counts
from whatwhere.need.studies.tally import Tally
from whatwhere.resampling import over_groups, share_over_groups
from whatwhere.say.selective import auroc, levels, of_counts
from whatwhere.say.studies.fold import _accuracy, _interval, _miou_change
from whatwhere.scores.classes import ACCURACY
from whatwhere.training.evaluate_scenes import pooled_miou
from whatwhere.use.studies.joint_rows import lost

Trial = Callable[[Generator], tuple[float, float, float]]  # low, high, truth
Floats = NDArray[np.float64]


def ends(e: Estimate, truth: float) -> tuple[float, float, float]:
    return e.low, e.high, truth


# Pictures that networks get right: a latent margin with a part of the picture, of the network, and of both.

OWN = 0.5  # spread of what a picture is to a single network, beside 1 of the picture itself


def slope(mean: float) -> float:
    """How much a network's accuracy moves with its margin."""
    whole = math.hypot(1, OWN)
    return math.exp(-((mean / whole) ** 2) / 2) / math.sqrt(2 * math.pi) / whole


def margins(rng: Generator, seeds: int, n: int, mean: float, spread: float, pictures: Floats | None = None) -> Floats:
    """(seeds, n) margins of networks whose accuracies vary with a standard deviation of `spread`."""
    of_pictures = rng.normal(size=n) if pictures is None else pictures
    return mean + of_pictures + spread / slope(mean) * rng.normal(size=(seeds, 1)) + OWN * rng.normal(size=(seeds, n))


def expected(mean: float, spread: float) -> float:
    return float(ndtr(mean / math.sqrt(1 + OWN**2 + (spread / slope(mean)) ** 2)))


def share(n: int, p: float) -> Trial:
    return lambda rng: ends(accuracy(rng.random((1, n)) < p), p)


def over_seeds(seeds: int, n: int, mean: float, spread: float) -> Trial:
    return lambda rng: ends(accuracy(margins(rng, seeds, n, mean, spread) > 0), expected(mean, spread))


def these_pictures(seeds: int, n: int, mean: float, spread: float) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        pictures = rng.normal(size=n)
        found = accuracy(margins(rng, seeds, n, mean, spread, pictures) > 0).fixed or (0.0, 0.0)
        return *found, float(ndtr((mean + pictures) / math.hypot(OWN, spread / slope(mean))).mean())

    return trial


def paired(seeds: int, n: int, gain: float, spread: float, mean: float = 0.8) -> Trial:
    truth = expected(mean + gain, spread) - expected(mean, spread)

    def trial(rng: Generator) -> tuple[float, float, float]:
        pictures = rng.normal(size=n)
        better, plain = (margins(rng, seeds, n, m, spread, pictures) > 0 for m in (mean + gain, mean))
        return ends(difference(better, plain), truth)

    return trial


def rare(seeds: int, n: int, changed: float) -> Trial:
    """So many pictures on average are lost and none gained, by each network its own ones."""

    def trial(rng: Generator) -> tuple[float, float, float]:
        plain = np.ones((seeds, n), bool)
        return ends(difference(rng.random((seeds, n)) >= changed / n, plain), -changed / n)

    return trial


def same_rare(seeds: int, n: int, changed: float) -> Trial:
    """Likewise, by all networks the same ones."""

    def trial(rng: Generator) -> tuple[float, float, float]:
        plain = np.ones((seeds, n), bool)
        return ends(difference(np.repeat(rng.random((1, n)) >= changed / n, seeds, 0), plain), -changed / n)

    return trial


def own_pictures(seeds: int, n: int, mean: float, spread: float) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        right = [int((margins(rng, 1, n, mean + a, 0.0) > 0).sum()) for a in shifts(rng, seeds, mean, spread)]
        return ends(accuracy_of_counts(right, n), expected(mean, spread))

    return trial


def shifts(rng: Generator, seeds: int, mean: float, spread: float) -> Floats:
    return spread / slope(mean) * rng.normal(size=seeds)


def own_pairs(seeds: int, n: int, spread: float) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        better, worse = [], []
        for a in shifts(rng, seeds, 0.8, spread):
            pictures = rng.normal(size=n)
            first, second = (margins(rng, 1, n, m, 0.0, pictures)[0] > 0 for m in (0.8 + a, 0.8))
            better.append(int((first & ~second).sum()))
            worse.append(int((second & ~first).sum()))
        return ends(difference_of_counts(better, worse, n), expected(0.8, spread) - expected(0.8, 0.0))

    return trial


def counts_only(seeds: int, n: int, mean: float, spread: float) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        right = (margins(rng, seeds, n, mean, spread) > 0).sum(1).tolist()
        return ends(accuracy_of_counts(right, n, same=True), expected(mean, spread))

    return trial


def share_lost(seeds: int, n: int, spread: float) -> Trial:
    """The share of accuracy that shuffling takes, of one kind of networks minus another."""
    means = {"own": (0.8, 0.2), "plain": (0.7, 0.3)}
    ratios = {k: 1 - expected(b, spread) / expected(a, spread) for k, (a, b) in means.items()}

    def trial(rng: Generator) -> tuple[float, float, float]:
        pictures, parts = rng.normal(size=n), {}
        for kind, (a, b) in means.items():
            intact, right = (margins(rng, seeds, n, m, spread, pictures) > 0 for m in (a, b))
            parts[kind] = np.array([lost(r.astype(float), i.astype(float)) for i, r in zip(intact, right, strict=True)])
        found = over_networks(parts["own"] - parts["plain"], counted=False)
        return ends(found, ratios["own"] - ratios["plain"])

    return trial


# Draws of a shuffle that all pictures of a batch share.


def drawn(rng: Generator, batches: int, size: int, draws: int, shared: float, pictures: Floats) -> Tally:
    parts = []
    for own in np.split(pictures, batches):
        margin = 0.4 + own + shared * rng.normal(size=(draws, 1)) + rng.normal(size=(draws, size))
        parts.append(_tally(margin > 0))
    return Tally.join(parts)


def _tally(right: NDArray[np.bool_]) -> Tally:
    import torch

    return Tally.of(torch.from_numpy(right))


def shuffled(batches: int, size: int, draws: int, shared: float, *, drop: bool = False) -> Trial:
    truth = float(ndtr(0.4 / math.sqrt(2 + shared**2)))

    def trial(rng: Generator) -> tuple[float, float, float]:
        pictures = rng.normal(size=batches * size)
        tally = drawn(rng, batches, size, draws, shared, pictures)
        if not drop:
            return ends(tally.estimate(ACCURACY), truth)
        return ends(tally.loss(_tally(pictures[None] > -0.8), ACCURACY), float(ndtr(0.8)) - truth)

    return trial


def one_draw(n: int, shared: float) -> Trial:
    """With a single draw the interval is over pictures, for this draw."""

    def trial(rng: Generator) -> tuple[float, float, float]:
        shift, pictures = shared * rng.normal(), rng.normal(size=n)
        right = 0.4 + shift + pictures + rng.normal(size=n) > 0
        found = over_pictures(None, right.astype(float), np.ones(n, int), [])
        return ends(found, float(ndtr((0.4 + shift) / math.sqrt(2))))

    return trial


# Scores of pictures (SPC), of one network or of several on the same pictures.


def scores(n: int, tail: float) -> Trial:
    """One minus a gamma variable: the smaller its shape, the longer the tail of badly read pictures."""
    return lambda rng: ends(over_scores(1 - 0.2 * rng.gamma(tail, 1 / tail, n)), 0.8)


def networks_scores(networks: int, n: int, spread: float, *, above: bool = False) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        pictures = -0.1 * rng.gamma(2, 0.7, n) + 0.14
        others = 0.3 + pictures + spread * rng.normal(size=(networks, 1)) + 0.08 * rng.normal(size=(networks, n))
        if not above:
            return ends(over_networks(others, counted=False), 0.3)
        own = 0.5 + pictures + 0.08 * rng.normal(size=n)
        return ends(over_networks(own - others, counted=False, low=-2, high=2), 0.2)

    return trial


# Segments of video: confusions of classes that each segment has in its own shares.

CLASSES = 8
SHARES = np.array([0.3, 0.25, 0.15, 0.12, 0.08, 0.05, 0.03, 0.02])
MARGINS = np.array([2.5, 2.2, 2.0, 1.5, 1.2, 1.0, 0.5, 0.2])
OFF = np.random.default_rng(0).dirichlet(np.full(CLASSES, 0.5), CLASSES) * (1 - np.eye(CLASSES))
OFF /= OFF.sum(1, keepdims=True)
EVEN, SCARCE = 20.0, 2.0  # how alike the segments' shares of classes are


def segments(
    rng: Generator, n: int, alike: float, gains: Sequence[float], seeds: int = 1, noise: float = 0.0
) -> Floats:
    """(seeds, n, networks, classes, classes): shares of pixels; each network is better by its gain."""
    there = rng.gamma(alike * SHARES, size=(n, CLASSES))
    there /= there.sum(1, keepdims=True)
    margin = MARGINS + 0.35 * rng.normal(size=(n, 1)) + 0.5 * rng.normal(size=(n, CLASSES))
    more = np.array(gains)[:, None] + 0.2 * rng.normal(size=(n, len(gains), CLASSES))
    again = noise * rng.normal(size=(seeds, 1, 1, 1)) * (np.array(gains) > 0)[:, None]
    right = expit(margin[:, None] + more + again)
    counts = (there[:, None] * (1 - right))[..., None] * OFF
    counts[..., range(CLASSES), range(CLASSES)] = there[:, None] * right
    return counts


@cache
def population(alike: float, gains: tuple[float, ...], noise: float = 0.0) -> Any:
    """Of very many segments."""
    rng = np.random.default_rng(1)
    total = np.sum([segments(rng, 500, alike, gains, 20, noise).mean((0, 1)) for _ in range(100)], 0)
    change = _miou_change(total, total) if len(gains) > 1 else 0.0
    return {"miou": pooled_miou(total[0]), "change": change, "accuracy": _accuracy(total[0], total[0])}


def miou(n: int, alike: float) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        found = _interval(segments(rng, n, alike, (0.0,))[:, :, 0], pooled_miou)
        return _ends(found, population(alike, (0.0,))["miou"])

    return trial


def pixel_accuracy(n: int, alike: float) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        found = _interval(segments(rng, n, alike, (0.0,))[:, :, 0], _accuracy)
        return _ends(found, population(alike, (0.0,))["accuracy"])

    return trial


def miou_change(n: int, alike: float, gain: float) -> Trial:
    gains = (0.0, gain)

    def trial(rng: Generator) -> tuple[float, float, float]:
        found = _interval(segments(rng, n, alike, gains), _miou_change, low=-1.0)
        return _ends(found, population(alike, gains)["change"])

    return trial


def miou_change_over_seeds(n: int, seeds: int, noise: float) -> Trial:
    gains = (0.0, 0.15)

    def trial(rng: Generator) -> tuple[float, float, float]:
        found = _interval(segments(rng, n, EVEN, gains, seeds, noise), _miou_change, low=-1.0)
        return _ends(found, population(EVEN, gains, noise)["change"])

    return trial


def _ends(found: Any, truth: float) -> tuple[float, float, float]:
    return found.low, found.high, truth


# Confidences of pixels in groups.

PIXELS, BITS = 150, 8


def confidences(rng: Generator, groups: int) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Two confidences of every pixel, (groups, pixels), and whether it is right."""
    margin = 1.2 + 0.5 * rng.normal(size=(groups, 1)) + 1.2 * rng.normal(size=(groups, PIXELS))
    right = rng.random(margin.shape) < expit(margin)
    first = margin + 0.3 * rng.normal(size=(groups, 1)) + rng.normal(size=margin.shape)
    second = margin + 0.3 * rng.normal(size=(groups, 1)) + 1.5 * rng.normal(size=margin.shape)
    return expit(first), expit(second), right


@cache
def true_aurocs() -> tuple[float, float]:
    first, second, right = confidences(np.random.default_rng(2), 20_000)
    return auroc(levels(first, right, 16)), auroc(levels(second, right, 16))


def counted(sure: Floats, right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(groups, levels, 2): pixels and right pixels."""
    at = np.floor(sure * 2**BITS).astype(int).clip(max=2**BITS - 1)
    out = np.zeros((len(sure), 2**BITS, 2), np.int64)
    group = np.repeat(np.arange(len(sure)), sure.shape[1])
    np.add.at(out, (group, at.ravel()), np.stack([np.ones(at.size, int), right.ravel()], 1))
    return out[:, ::-1]


LEVELS = np.arange(2**BITS, 0, -1) / 2**BITS


def _auroc(total: Floats) -> float:
    return auroc(of_counts(LEVELS, total.astype(np.int64)))


def auroc_of(groups: int) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        first, _, right = confidences(rng, groups)
        return _ends(over_groups(counted(first, right), _auroc, low=0.0), true_aurocs()[0])

    return trial


def auroc_difference(groups: int) -> Trial:
    def trial(rng: Generator) -> tuple[float, float, float]:
        first, second, right = confidences(rng, groups)
        both = np.stack([counted(first, right), counted(second, right)], 1)
        truth, other = true_aurocs()
        return _ends(over_groups(both, lambda t: _auroc(t[0]) - _auroc(t[1])), truth - other)

    return trial


def answered(groups: int, mean: float, alike: float) -> Trial:
    """A share of pixels, in each group a beta variable: coverage at a threshold, or accuracy of what is answered."""

    def trial(rng: Generator) -> tuple[float, float, float]:
        pixels = rng.integers(500, 1500, groups)
        some = rng.binomial(pixels, rng.beta(alike * mean, alike * (1 - mean), groups))
        return *share_over_groups(some, pixels), mean

    return trial
