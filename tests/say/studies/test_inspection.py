"""Inspectability at places: chosen on some pictures, scored on others, by loops."""

import numpy as np
import pytest
import torch

from whatwhere.say.studies import inspection
from whatwhere.say.studies.broden_places import Places
from whatwhere.say.studies.inspection import DRAWS, SHARES, Half, Lined, counts_of, difference, in_broden, noise_level


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
    assert found["interval"] == [None, None]  # of one group of pictures
    assert len(in_broden(lambda x: x[:, :3], calibration, validation, named=True)["own"]) == 3


def test_without_places_nothing_is_measured():
    none = Places(torch.zeros(0, 0), torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int8), 0)
    assert in_broden(lambda x: x, drawn(0, 10), none, named=False) is None
    assert in_broden(lambda x: x, none, drawn(0, 10), named=False) is None


COMMON = torch.tensor([0.75, 0.3, 0.1])  # how often concepts are there
G = torch.Generator().manual_seed(0)
LABELS = [(torch.rand(n, 3, 8, 10, generator=G) < COMMON.view(3, 1, 1)).to(torch.int8).numpy() for n in (40, 40)]


def half(part: int, channels=None) -> Half:
    return Half(LABELS[part], torch.arange(40) // 2, channels or (lambda rows: torch.zeros(len(rows), 1, 8, 10)))


def test_channels_that_know_nothing_reach_the_level_of_noise():
    """Another network's channels, and white instead of smooth: the level is that of the concepts alone."""
    g = torch.Generator().manual_seed(1)
    maps = [torch.randn(40, 35, 8, 10, generator=g) for _ in range(2)]
    seen = Lined.up(*(half(i, lambda rows, i=i: maps[i][rows]) for i in range(2)))
    level = noise_level(half(0), half(1), 35)
    value, low, high = difference(seen.counts, level.counts)
    assert abs(value) < 0.01
    assert low < 0 < high
    assert level.about["auic"] == pytest.approx(np.mean(level.about["draws"]))
    assert 0.5 < level.about["auic"] < 0.75  # what "0.71 against 0.59" was worth
    # On at 90 % of the pixels, the most that a channel can be, and independent of the commonest concept.
    assert level.about["auic"] == pytest.approx(0.75 * 0.9 / (0.75 + 0.9 - 0.75 * 0.9), abs=0.03)
    assert (len(level.about["draws"]), len(set(level.about["draws"]))) == (DRAWS, DRAWS)
    assert level.counts.shape == (20, 35 * DRAWS, 2)
    assert noise_level(half(0), half(1), 35).about == level.about  # bit for bit


def test_the_level_does_not_look_at_the_network(monkeypatch):
    monkeypatch.setattr(inspection, "DRAWS", 2)
    other = [half(i, lambda rows: pytest.fail("channels were asked for")) for i in range(2)]
    assert noise_level(*other, 4).about == noise_level(half(0), half(1), 4).about
    assert noise_level(*other, 4).about["channels"] == 4
    assert noise_level(*other, 4000).about["channels"] == inspection.MOST
    kept = {}
    first = noise_level(*other, 4, kept)
    assert noise_level(*other, 4, kept) is first


def test_always_on_is_the_commonest_concept():
    halves = [half(i, lambda rows, i=i: 2.0 * torch.from_numpy(LABELS[i][rows.numpy()])) for i in range(2)]
    found = inspection._found(tuple(halves), named=True, kept=None)
    assert found["commonest"]["concept"] == 0
    assert found["commonest"]["auic"] == pytest.approx(float((LABELS[1][:, 0] == 1).mean()))
    assert found["auic"] == 1.0
    assert found["noise"]["above"][1] > 0.2
    assert found["commonest"]["above"][1] > 0.2
    assert found["named"]["iou"][0] == 1.0
    assert found["named"]["always on"] == pytest.approx(float((LABELS[1] == 1).mean((0, 2, 3)).mean()))


def test_differences_are_paired_over_groups():
    """Against the jackknife by hand, each group left out of both at once."""
    rng = np.random.default_rng(0)
    both = rng.integers(1, 50, (12, 5, 1))
    a, b = (np.concatenate([both, both + rng.integers(1, 9, (12, 5, 1))], 2).astype(float) for _ in range(2))

    def level(counts, out=None):
        total = np.delete(counts, [] if out is None else out, 0).sum(0)
        return np.mean(total[:, 0] / total[:, 1])

    value, low, high = difference(a, b)
    assert value == pytest.approx(level(a) - level(b))
    pseudo = [12 * value - 11 * (level(a, i) - level(b, i)) for i in range(12)]
    half = 2.200985 * np.std(pseudo, ddof=1) / np.sqrt(12)  # Student's t of 11
    assert high - low == pytest.approx(2 * half, rel=0.1)  # and a little more, for the bias of a ratio
    assert low < value < high
    apart = difference(a)[2] - difference(a)[1]
    assert high - low < apart + difference(b)[2] - difference(b)[1]
    assert difference(a[:1]) == [pytest.approx(level(a[:1])), None, None]


def test_counts_come_back(said):
    row = said.result.row("middle", "ssb").extras["inspection"]
    assert "counts" not in row  # only in the cell
    assert counts_of({"auic": 0.5}) is None  # of an earlier version
    seen = row["against"]["intact"]
    intact = said.result.row("middle", "intact").extras["inspection"]
    assert seen[0] == pytest.approx(row["auic"] - intact["auic"], abs=1e-9)
    assert seen[1] < seen[0] < seen[2]
