"""Inspectability at places: chosen on some pictures, scored on others, by loops."""

import numpy as np
import pytest
import torch

from whatwhere.say.studies.broden_places import Places
from whatwhere.say.studies.inspection import SHARES, in_broden


def drawn(seed: int, n: int) -> Places:
    g = torch.Generator().manual_seed(seed)
    centres = torch.randint(-1, 2, (n, 3), generator=g).to(torch.int8)
    features = torch.randn(n, 4, generator=g)
    features[:, :3] += 1.5 * centres.clamp_min(0)  # channel k goes with concept k, more or less
    return Places(features, centres.float(), centres, 5)


def iou(on: np.ndarray, labels: np.ndarray) -> float:
    known = labels >= 0
    both, either = (on & (labels == 1))[known].sum(), (on | (labels == 1))[known].sum()
    return both / either if either else 0.0


def test_thresholds_and_concepts_come_from_the_calibration_pictures():
    calibration, validation = drawn(0, 300), drawn(1, 200)
    found = in_broden(lambda x: 2 * x, calibration, validation, named=False)
    expected = []
    for c in range(4):
        x, held = (2 * p.features[:, c].numpy() for p in (calibration, validation))
        ordered = np.sort(x)[::-1]
        choices = [
            (iou(x > limit, calibration.centres[:, k].numpy()), -k, limit)
            for k in range(3)
            for limit in (ordered[int(s * len(x) + 1e-9)] for s in SHARES)
        ]
        _, k, limit = max(choices)
        assert found["concept"][c] == -k
        expected.append(iou(held > limit, validation.centres[:, -k].numpy()))
    assert found["iou"] == pytest.approx(expected, abs=1e-4)
    assert found["auic"] == pytest.approx(np.mean(expected))
    assert found["concept"][:3] == [0, 1, 2]
    assert (found["on"], found["pictures"], found["own"]) == ("Broden+", 5, [])
    assert len(in_broden(lambda x: x[:, :3], calibration, validation, named=True)["own"]) == 3


def test_without_places_nothing_is_measured():
    none = Places(torch.zeros(0, 0), torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int8), 0)
    assert in_broden(lambda x: x, drawn(0, 10), none, named=False) is None
    assert in_broden(lambda x: x, none, drawn(0, 10), named=False) is None
