"""Fitting and scoring one network: against SciPy from end to end, and what is left out or noted."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from small_classifier import small_classifier as network
from small_readout import FEW, position
from whatwhere.errors import InputError
from whatwhere.hold.features import Group, Reader, Tap, taps_of
from whatwhere.hold.linear import LinearReadOut
from whatwhere.hold.official import Official
from whatwhere.hold.ridge import RidgeFit
from whatwhere.hold.studies import measure as measuring
from whatwhere.hold.studies import solving
from whatwhere.hold.studies.measure import parts_of
from whatwhere.hold.studies.pictures import pictures_of, prepared
from whatwhere.hold.targets import targets_of


def test_features_that_do_not_fit_are_read_again(data, monkeypatch):
    options = {**FEW, "readouts": ["official"], "official": Official(epochs=2, batch_size=8)}
    cached = position(network(), data, untrained=0, paddings=[], **options)
    monkeypatch.setattr(measuring, "CACHE", 0)
    streamed = position(network(), data, untrained=0, paddings=[], **options)
    for a, b in zip(cached.rows, streamed.rows, strict=True):
        assert a.spc.mean == pytest.approx(b.spc.mean, abs=1e-3)


def test_scores_are_those_of_predictions_brought_to_the_pictures_size(data):
    """The whole study for one site, written out: ridge on the features, upsampled, rank correlation by SciPy."""
    net, targets = network(), targets_of(["H"])
    found = position(net, data, **{**FEW, "targets": ["H"]}, sites=["4"], untrained=0, paddings=[], blanks=[])
    chosen = pictures_of(data, None, FEW["pictures"], FEW["test_pictures"], 0)
    (tap,) = taps_of(net, ["4"], input_size=(3, 16, 16))
    fit = RidgeFit(Group("4", (tap,)), targets, size=14)
    with Reader(net, [tap], size=14).reading() as read, torch.no_grad():
        for _, x in prepared(chosen.fit, net.preprocessing, 32):
            fit.add(read(x))
        path = fit.solve()
        for _, x in prepared(chosen.held_out, net.preprocessing, 32):
            path.add(read(x))
        ((_, x),) = prepared(chosen.test, net.preprocessing, 32)
        small = path.best().predict(read(x))
    large = nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)[:, 0]
    goal = np.tile(np.arange(16) / 15, (16, 1))
    spc = [spearmanr(m.flatten().numpy(), goal.flatten())[0] for m in large]
    mae = [np.abs(m.numpy() - goal).mean() for m in large]
    (row,) = found.of(site="4")
    assert row.spc.mean == pytest.approx(np.mean(spc), abs=1e-3)  # ranks of values rounded to 1e-5 of their range
    assert row.mae.mean == pytest.approx(np.mean(mae), abs=1e-5)


def test_memory_is_taken_at_once_for_what_is_kept_and_given_back_between_networks(data, monkeypatch):
    """What peaks of memory rest on: without either the features of a network stay in the heap, or their holes do."""
    monkeypatch.setattr(solving, "FEW_COLUMNS", 10)
    given, rooms = [], []

    class Roomy(measuring.Kept):
        def __init__(self, *args, room, **options):
            super().__init__(*args, room=room, **options)
            rooms.append((self, room))

    monkeypatch.setattr(measuring, "Kept", Roomy)
    monkeypatch.setattr(measuring, "give_back", lambda: given.append(len(rooms)))
    position(network(), data, untrained=1, paddings=[], blanks=[], **FEW)
    assert [room for _, room in rooms] == [sum(m.nbytes for p in k.parts for m in p.values()) for k, _ in rooms]
    assert len(rooms) == 4
    assert {2, 4} <= set(given)


def test_a_kernel_worse_than_its_own_centre_is_noted():
    linear = LinearReadOut(
        Group("all", ()), 3, 0, torch.zeros(2), torch.zeros(2), (), (0.06, 0.05), (0.04, 0.05), (0.08, 0.08)
    )
    (note,) = measuring.worse_than_its_centre(linear, "all", 3, ["H", "G"])
    assert "3x3 ridge read-out of 'all' predicts H on held-out pictures worse than the 1x1" in note
    assert "(mean squared error 0.0600, 0.0400)" in note


def test_only_the_closed_form_has_a_limit_of_columns(data, monkeypatch):
    monkeypatch.setattr(solving, "MOST_COLUMNS", 10)
    monkeypatch.setattr(solving, "KEPT", 0)  # with features that can be kept, a read-out has no limit
    held = position(
        network(), data, readouts=["ridge", "official"], official=Official(epochs=1), untrained=0, paddings=[], **FEW
    )
    assert "all" not in {r.site for r in held.rows if r.readout == "ridge"}
    assert "all" in {r.site for r in held.rows if r.readout == "official"}
    assert any("left out" in n for n in held.notes)
    monkeypatch.setattr(solving, "MOST_COLUMNS", 1)
    with pytest.raises(InputError, match="columns"):
        position(network(), data, untrained=0, paddings=[], **FEW)


def test_seeds_of_different_uses_do_not_meet():
    seeds = {measuring._seed(s, use, row) for s in range(5) for use in range(4) for row in range(500)}
    assert len(seeds) == 5 * 4 * 500
    assert measuring._seed(1, 2, 3) == 2 + 3 * 1_000_003 + 4 * 1_000_003**2


def test_parts_of_a_wider_read_out_of_the_same_kernel():
    a, b, c = (Tap(name, 2, (4, 4)) for name in "abc")
    one, other, two, turned, all_ = (
        Group("".join(t.name for t in taps), taps) for taps in ((a,), (b,), (a, b), (b, a), (a, b, c))
    )
    read = [(1, one), (1, two), (1, turned), (3, one), (1, all_), (3, other), (3, two)]
    assert {(k, g.name): h.name for (k, g), h in parts_of(read).items()} == {
        **{(1, name): "abc" for name in ("a", "ab", "ba")},
        (3, "a"): "ab",
        (3, "b"): "ab",
    }
    assert parts_of([(1, two), (1, turned)]) == {}


def test_a_few_pictures_are_predicted_at_a_time_and_the_scores_are_those_of_all(data, monkeypatch):
    options = {**FEW, "untrained": 0, "paddings": []}
    predict, sizes = LinearReadOut.predict, []
    monkeypatch.setattr(
        LinearReadOut, "predict", lambda self, maps: sizes.append(max(map(len, maps.values()))) or predict(self, maps)
    )
    monkeypatch.setattr(measuring, "SCORED", 100)
    whole = position(network(), data, **options)
    largest, sizes[:] = max(sizes), []
    monkeypatch.setattr(measuring, "SCORED", 3)
    few = position(network(), data, **options)
    assert largest > max(sizes) == 3
    assert few.rows == whole.rows


def test_read_outs_from_parts_of_products_are_those_of_a_pass_of_their_own(data, monkeypatch):
    options = {**FEW, "kernels": (1, 3), "sites": ["0", "4"], "untrained": 1, "paddings": [], "blanks": []}
    found = position(network(), data, **options)
    asked: list[int] = []
    monkeypatch.setattr(measuring, "parts_of", lambda read: asked.append(len(parts_of(read))) or {})
    own = position(network(), data, **options)
    assert asked[0] == 4  # two sites, two kernels; all sites together have them
    for a, b in zip(found.rows, own.rows, strict=True):
        assert (a.site, a.kernel, a.network, a.target) == (b.site, b.kernel, b.network, b.target)
        assert a.spc.mean == pytest.approx(b.spc.mean, abs=1e-6)
        assert a.penalty == b.penalty
