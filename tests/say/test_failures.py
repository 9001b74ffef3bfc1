"""Failures, counted pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.failures import FailureCounts, nearby

CLASSES, CONCEPTS = 3, 4


@pytest.fixture
def batches():
    """Two batches of maps, said and true classes with unlabelled pixels, and concept labels."""
    g = torch.Generator().manual_seed(0)
    found = []
    for n in (3, 2):
        labels = torch.randint(0, CLASSES, (n, 6, 7), generator=g)
        said = torch.where(
            torch.rand(n, 6, 7, generator=g) < 0.6, labels, torch.randint(0, CLASSES, (n, 6, 7), generator=g)
        )
        labels[torch.rand(n, 6, 7, generator=g) < 0.2] = 255
        targets = torch.randint(-1, 2, (n, CONCEPTS, 6, 7), generator=g).to(torch.int8)
        found.append((torch.rand(n, CONCEPTS, 6, 7, generator=g), said, labels, targets))
    return found


def pixels(batches):
    """(maps, said, true, labels of the concepts) of every labelled pixel."""
    for maps, said, labels, targets in batches:
        for i, y, x in np.argwhere(labels.numpy() != 255):
            yield (
                maps[i, :, y, x].double().numpy(),
                int(said[i, y, x]),
                int(labels[i, y, x]),
                targets[i, :, y, x].numpy(),
            )


def test_against_a_loop(batches):
    counts = FailureCounts(CLASSES, CONCEPTS)
    for batch in batches:
        counts.update(*batch)
    by_pair = {}
    for maps, said, true, given in pixels(batches):
        by_pair.setdefault((true, said), []).append((maps, given))
    ranked = counts.ranked(least=3)
    wanted = {p for p, v in by_pair.items() if p[0] != p[1] and len(v) >= 3}
    assert {(f.true, f.said) for f in ranked} == wanted
    assert [f.share for f in ranked] == sorted((f.share for f in ranked), reverse=True)
    for f in ranked:
        wrong, right = by_pair[f.true, f.said], by_pair[f.true, f.true]
        of_true = sum(len(v) for (t, _), v in by_pair.items() if t == f.true)
        assert (f.pixels, f.share) == (len(wrong), pytest.approx(len(wrong) / of_true))
        assert sorted(r.concept for r in f.reasons) == list(range(CONCEPTS))
        assert np.all(np.diff([abs(r.effect) for r in f.reasons]) <= 0)
        for r in f.reasons:
            a, b = (np.array([m[r.concept] for m, _ in v]) for v in (wrong, right))
            pooled = math.sqrt((len(a) * a.var() + len(b) * b.var()) / (len(a) + len(b)))
            assert (r.wrong, r.right) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
            assert r.effect == pytest.approx((a.mean() - b.mean()) / pooled)
            given = [g[r.concept] for _, g in wrong if g[r.concept] >= 0]
            assert r.there == pytest.approx(np.mean(given) if given else math.nan, nan_ok=True)


def test_a_planted_reason_comes_first():
    maps, labels = torch.full((1, 2, 10, 10), 0.5), torch.zeros(1, 10, 10, dtype=torch.int64)
    said = labels.clone()
    said[:, :3] = 1
    maps += 0.01 * torch.randn(maps.shape, generator=torch.Generator().manual_seed(0))
    maps[:, 1] += 0.3 * said
    counts = FailureCounts(2, 2)
    counts.update(maps, said, labels)
    (failure,) = counts.ranked(least=20)
    assert (failure.true, failure.said, failure.pixels, failure.share) == (0, 1, 30, pytest.approx(0.3))
    assert failure.reasons[0].concept == 1
    assert failure.reasons[0].effect > 10
    assert math.isnan(failure.reasons[0].there)  # no concept labels were given


def test_a_class_never_present_and_few_pixels_are_left_out(batches):
    counts = FailureCounts(CLASSES + 1, CONCEPTS)
    assert counts.ranked() == []
    counts.update(*batches[0])
    assert all(CLASSES not in (f.true, f.said) for f in counts.ranked(least=1))
    assert counts.ranked(least=1000) == []


def test_shapes_that_do_not_fit_are_refused(batches):
    maps, said, labels, _ = batches[0]
    with pytest.raises(InputError, match=r"give \(N, 4, h, w\)"):
        FailureCounts(CLASSES, CONCEPTS).update(maps[:, :3], said, labels)
    with pytest.raises(InputError, match="twice"):
        FailureCounts(CLASSES, CONCEPTS).update(maps, said, labels[:, :5])


def test_nearby_is_the_highest_around():
    maps = torch.rand(2, 3, 5, 6)
    found = nearby(maps, 2)
    for y in range(5):
        for x in range(6):
            box = maps[:, :, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            assert torch.equal(found[:, :, y, x], box.amax((2, 3)))


@pytest.mark.parametrize(("factor", "offset"), [(1e-9, 0.0), (1e-3, 1e4), (1.0, 1e7)])
def test_effects_do_not_depend_on_the_activations_unit(batches, factor, offset):
    """Sums of squares far from 0 leave nothing of a variance, and a fixed floor nothing of a tiny one."""
    plain, other = (FailureCounts(CLASSES, CONCEPTS) for _ in range(2))
    for maps, *rest in batches:
        plain.update(maps.double(), *rest)
        other.update(maps.double() * factor + offset, *rest)
    for a, b in zip(plain.ranked(least=3), other.ranked(least=3), strict=True):
        assert {r.concept: r.effect for r in b.reasons} == pytest.approx(
            {r.concept: r.effect for r in a.reasons}, rel=1e-5, abs=1e-9
        )
        first = {r.concept: r.wrong for r in a.reasons}
        assert all(r.wrong == pytest.approx(first[r.concept] * factor + offset) for r in b.reasons)


def test_a_concept_that_never_varies_says_nothing_and_one_that_only_differs_says_all():
    labels, said = torch.zeros(1, 2, 4, dtype=torch.int64), torch.tensor([[[0] * 4, [1] * 4]])
    maps = torch.stack([torch.full((2, 4), 0.3), said[0].float()])[None]
    counts = FailureCounts(2, 2)
    counts.update(maps, said, labels)
    (found,) = counts.ranked(least=3)
    assert [(r.concept, r.effect) for r in found.reasons] == [(1, pytest.approx(1e6)), (0, 0.0)]
