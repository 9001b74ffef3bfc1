"""Chunks of the curve against full forward passes, and what is shared, counted and drawn."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from small_classifier import small_classifier
from whatwhere.data import Data, Split
from whatwhere.data.sources import Memory
from whatwhere.lab.parts import Parts
from whatwhere.need.studies.chunk import Removals, cost, measure, measure_plain, seed_of_draw
from whatwhere.site_table import list_sites

BATCH = 40


def by_the_plain_path(net: ww.Network, data: Data, method: str, site: str, repeats: int, seed: int) -> list[float]:
    """Accuracy of each draw by full forward passes."""
    accuracies = []
    for repeat in range(repeats):
        right = 0
        for number, (images, labels) in enumerate(data.test.batches(BATCH, geometry=net.preprocessing)):
            draw = seed_of_draw(seed, method, site, repeat, number)
            removal = (
                ww.need.pool(net, f"{site}:")
                if method == "mean"
                else ww.need.shuffle(net, f"{site}:", mode=method, seed=draw)
            )
            with removal, torch.no_grad():
                right += int((net.module(net.preprocessing.normalise(images)).argmax(1) == labels).sum())
        accuracies.append(right / len(data.test))
    return accuracies


def test_numbers_are_those_of_full_forward_passes(trained, digits):
    curve = ww.need.curve(
        trained, digits, methods=["per-channel", "mean"], repeats=2, seed=3, batch_size=BATCH, quiet=True
    )
    for p in curve.points:
        repeats = 1 if p.method == "mean" else 2
        slow = by_the_plain_path(trained, digits, p.method, p.site, repeats, seed=3)
        assert list(p.values) == pytest.approx(slow, abs=1e-12), p.site
        assert p.accuracy.mean == pytest.approx(np.mean(slow))


def pictures(n: int = 10) -> Split:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split("test", Memory(images), torch.arange(n) % 10, [str(i) for i in range(10)])


def removals(**changes) -> Removals:
    net = small_classifier()
    table = list_sites(net)
    cuts = [s for s in table if s.kind == "conv"]
    plain = {"methods": ("per-channel", "mean"), "reach": "from", "seed": 3, "batch_size": 4}
    return Removals(net, table, cuts, **{**plain, **changes})


def test_seeds_of_draws_are_their_own_and_stay_what_they_were():
    """Folders of earlier runs go on only if the draws do not change."""
    digest = hashlib.sha256(b"0/per-channel/features.0/1/2").hexdigest()
    assert seed_of_draw(0, "per-channel", "features.0", 1, 2) == int(digest[:14], 16)
    ways = [(s, m, c, r, b) for s in (0, 1) for m in ("all", "rows") for c in "ab" for r in range(3) for b in range(3)]
    assert len({seed_of_draw(*way) for way in ways}) == len(ways)
    assert seed_of_draw(0, "all", "a", 1, 11) != seed_of_draw(0, "all", "a", 11, 1)


def test_batches_are_those_of_the_whole_split():
    what = removals()
    assert list(what.batches(range(4, 10))) == [1, 2]
    assert [what.pictures(n, range(4, 10)) for n in (1, 2)] == [range(4, 8), range(8, 10)]


def test_a_removal_goes_to_the_end_or_over_so_many_cuts():
    first, second = removals().cuts
    assert removals().selection(first) == "0:"
    assert removals(reach=1).selection(first) == [first]
    assert removals(reach=2).selection(first) == [first, second]
    assert removals(reach=2).selection(second) == [second]


def test_a_task_costs_what_comes_after_its_cut():
    """The first convolution is 2 · 4 · 27 · 256 operations, the second 2 · 8 · 36 · 64, the linear layer 2 · 8 · 10."""
    what, repeats = removals(), {(m, s): 2 for m in ("per-channel", "mean") for s in ("0", "3")}
    first, second, last = 2 * 4 * 27 * 256, 2 * 8 * 36 * 64, 2 * 8 * 10
    tasks = what.tasks(repeats)
    assert tasks[None] == tasks["mean", "0", 1] == first + second + last
    assert tasks["per-channel", "3", 0] == second + last
    assert len(tasks) == 1 + 2 * 2 * 2
    whole = (first + second + last) * 5 + (second + last) * 4
    assert cost(what, range(4, 10), repeats) == 6 * whole


def test_a_chunk_is_what_plain_passes_say_and_its_parts_are_not_measured_again(monkeypatch):
    what, split = removals(methods=("mean",)), pictures()
    repeats = {("mean", "0"): 1, ("mean", "3"): 1}
    parts = Parts()
    found = measure(what, split, range(0, 10), repeats, parts)
    images, labels = next(split.batches(10))
    for place, tally in found.items():
        with ww.need.pool(what.net, f"{place[1]}:") if place else torch.no_grad(), torch.no_grad():
            scores = what.net.module(what.net.preprocessing.normalise(images))
        assert tally.hits.tolist() == (scores.argmax(1) == labels).long().tolist()
        assert [b.n for b in tally.batches] == [4, 4, 2]
    monkeypatch.setattr(nn.Conv2d, "forward", lambda *_: pytest.fail("ran"))
    monkeypatch.setattr("whatwhere.need.studies.chunk.SharedPrefix.__call__", lambda *_: pytest.fail("ran"))
    again = measure(what, split, range(0, 10), repeats, parts)
    assert {p: t.to_dict() for p, t in again.items()} == {p: t.to_dict() for p, t in found.items()}


def test_a_network_as_it_is_goes_on_with_the_batches_that_are_missing():
    net, split, parts = small_classifier(), pictures(), Parts()
    whole = measure_plain(net, split, 4, parts)
    assert whole.hits.mean() == pytest.approx(ww.evaluate(net, split).accuracy)
    seen = []
    net.module[0].register_forward_hook(lambda m, args, out: seen.append(len(out)))
    some = Parts()
    for name in ("0", "8"):
        some.add(name, parts[name])
    assert measure_plain(net, split, 4, some).to_dict() == whole.to_dict()
    assert seen == [4]
