"""The parts of the study: tables, kinds, features, intervals, confidences, each by a slow path."""

import math
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.bottleneck.layer import Bottleneck
from whatwhere.bottleneck.selective import levels
from whatwhere.data.concept_spec import concepts_of
from whatwhere.errors import InputError
from whatwhere.studies.bottleneck import result
from whatwhere.studies.bottleneck.cell import Bench
from whatwhere.studies.bottleneck.features import held_at, site_features
from whatwhere.studies.bottleneck.fold import _interval, _miou, folded
from whatwhere.studies.bottleneck.kinds import cooled, rows_of, sample
from whatwhere.studies.bottleneck.measure import Cells, cells, confusions, table_ceiling
from whatwhere.studies.bottleneck.result import _confidence_lines
from whatwhere.studies.bottleneck.sure import BITS, _auroc_interval, _ranks, confidence
from whatwhere.studies.packed import pack_scores

SITE = "middle"


def bench(said, folder=None):
    return Bench(said.net, said.scenes, folder or said.out)


def config(said, kind="intact"):
    return {
        "site": SITE,
        "kind": kind,
        "concepts": said.concepts,
        "seed": 0,
        "group": 4,
        "recipe": said.recipe.to_dict(),
    }


def test_a_table_from_concepts_to_classes():
    g = np.random.default_rng(0)
    concepts = [g.integers(-1, 2, (n, 5, 4, 6)).astype(np.int8) for n in (9, 3)]
    labels = [torch.from_numpy(np.where(g.random((n, 4, 6)) < 0.1, 255, g.integers(0, 3, (n, 4, 6)))) for n in (9, 3)]
    labels[1][:, 0] = 3  # a class that is never trained on
    table, every = defaultdict(Counter), Counter()
    for i, y, x in np.ndindex(9, 4, 6):
        if (label := int(labels[0][i, y, x])) != 255:
            table[tuple(concepts[0][i, :, y, x])][label] += 1
            every[label] += 1
    expected = np.zeros((3, 4, 4), int)
    unknown = 0
    for i, y, x in np.ndindex(3, 4, 6):
        seen, label = table.get(tuple(concepts[1][i, :, y, x])), int(labels[1][i, y, x])
        unknown += seen is None
        counts = every if seen is None else seen
        if label != 255:
            expected[i, label, min(counts, key=lambda c: (-counts[c], c))] += 1
    assert unknown
    found = table_ceiling((concepts[0], labels[0]), (concepts[1], labels[1]), 4)
    assert found.tolist() == expected.tolist()


def drawn_cells(g, n=12, classes=3, good=0.7):
    """Confusions of pictures in six groups, as a cell holds them."""
    right = np.eye(classes) * g.integers(5, 40, (n, classes, 1))
    counts = right + g.integers(0, 9, (n, classes, classes)) * (1 - good)
    return {"confusions": pack_scores(counts.flatten()), "n": n, "groups": [i // 2 for i in range(n)], "channels": 4,
            "names": [], "counts": [], "plain": np.asarray(counts, "<f4").astype(float)}  # fmt: skip


def miou(total):
    right = np.diag(total)
    return np.mean(right / (total.sum(0) + total.sum(1) - right))


def test_intervals_are_paired_and_over_groups(streets):
    g = np.random.default_rng(0)
    found = {
        ("s", "intact", 0): drawn_cells(g),
        ("s", "pca", 0): drawn_cells(g, good=0.2),
        ("s", "pca", 1): drawn_cells(g, good=0.4),
    }
    three = replace(streets, splits={n: _with_classes(s, "abc") for n, s in streets.splits.items()})
    about = {"sites": ["s"], "kinds": ["intact", "pca"], "seeds": [0, 1]}
    seen = folded(found, three, about, {})
    intact, pca = (
        [c["plain"].reshape(6, 2, 3, 3).sum(1) for k, c in found.items() if k[1] == kind] for kind in ("intact", "pca")
    )
    mean, plain = np.mean(pca, 0), intact[0]
    times = np.random.default_rng(0).multinomial(6, [1 / 6] * 6, size=1000)
    drawn = [(np.tensordot(t, mean, 1), np.tensordot(t, plain, 1)) for t in times.astype(float)]
    changes = [miou(a) - miou(b) for a, b in drawn]
    row = seen.row("s", "pca")
    assert row.change.value == pytest.approx(miou(mean.sum(0)) - miou(plain.sum(0)))
    assert (row.change.low, row.change.high) == pytest.approx(np.quantile(changes, [0.025, 0.975]).tolist())
    assert (row.miou.low, row.miou.high) == pytest.approx(
        np.quantile([miou(a) for a, _ in drawn], [0.025, 0.975]).tolist()
    )
    assert row.seeds == pytest.approx([miou(p.sum(0)) for p in pca], abs=1e-6)
    assert row.change.groups == 6
    assert seen.row("s", "intact").change is None


def _with_classes(split, names):
    made = split.only(torch.arange(len(split)))
    made.classes = tuple(names)
    return made


def test_a_class_never_present_is_no_part_of_the_mean(streets):
    g = np.random.default_rng(0)
    cell = drawn_cells(g)
    counts = cell["plain"].copy().reshape(12, 3, 3)
    counts[:, 2] = 0  # never there, but said
    cell |= {"confusions": pack_scores(counts.flatten())}
    three = replace(streets, splits={n: _with_classes(s, "abc") for n, s in streets.splits.items()})
    row = folded({("s", "intact", 0): cell}, three, {"sites": ["s"], "kinds": ["intact"], "seeds": [0]}, {}).rows[0]
    total = counts.sum(0)
    expected = [total[i, i] / (total[i].sum() + total[:, i].sum() - total[i, i]) for i in range(3)]
    assert row.miou.value == pytest.approx(np.mean(expected[:2]))
    assert row.iou[2] == 0


def test_concepts_of_one_name_and_two_meanings_are_kept_apart(said, tmp_path):
    found = []
    for members in (["car"], ["car", "road", "building"]):
        spec = {"merged": {"thing": members}}
        source = concepts_of(spec, said.scenes)
        found.append(site_features(said.net, SITE, said.scenes.test, source, spec, tmp_path))
    assert not np.array_equal(found[0].targets, found[1].targets)
    assert len(list((tmp_path / "features").glob("test-*.npy"))) == 5  # the features once, two arrays of concepts twice


def test_features_are_those_of_the_site_before_what_follows_rewrites_them(said):
    picture = said.net.preprocessing.normalise(said.scenes.test[0][0][None])
    net = said.net.module
    with torch.no_grad():
        expected = net.head[1](net.head[0](net.middle(net.front(picture))))  # a ReLU in place comes next
        assert torch.equal(held_at(net, "head.1", picture), expected)
    assert (expected < 0).any()


def test_features_beyond_half_precision_are_refused(said, tmp_path):
    import copy

    net = replace(said.net, module=copy.deepcopy(said.net.module))
    net.module.middle[1].weight.data.mul_(1e7)
    source = concepts_of(said.concepts, said.scenes)
    with pytest.raises(InputError, match="beyond 65504"):
        site_features(net, SITE, said.scenes.test, source, said.concepts, tmp_path)
    assert not list((tmp_path / "features").glob("*.npy"))


def test_heads_and_their_calibration_share_no_group(said):
    train = bench(said).features(config(said), "train")
    fit, held = (rows_of(train, calibrating) for calibrating in (False, True))
    groups = train.split.groups
    assert not set(groups[fit].tolist()) & set(groups[held].tolist())
    assert sorted([*fit.tolist(), *held.tolist()]) == list(range(len(train)))
    few = replace(train, split=train.split.only(torch.arange(4)))
    assert rows_of(few, True).tolist() == [0, 1, 2, 3]  # too few to hold one out


def test_places_are_drawn_evenly_over_pictures(said):
    train = bench(said).features(config(said), "train")
    drawn = sample(train, 0, n=60)
    assert drawn.features.shape == (60, 24)
    every = torch.from_numpy(np.asarray(train.features, np.float32)).movedim(1, -1).flatten(1, 2)
    for i, part in enumerate(drawn.features.split(5)):
        assert (part[:, None] == every[i]).all(-1).any(1).all()
    assert torch.equal(sample(train, 0, n=60).features, drawn.features)


def test_the_temperature_falls_to_a_tenth():
    layer = Bottleneck(8, 4, "softmax", group=2)
    seen = []
    for done in range(5):
        cooled(layer, done, 4)
        seen.append(float(layer.temperature))
    np.testing.assert_allclose(seen, 0.1 ** (np.arange(5) / 4), rtol=1e-6)


def test_true_maps_stand_where_concepts_are_said(said):
    held = bench(said).features(config(said, "truth"), "test")
    shares = held.shares_at(torch.arange(len(held)))
    assert torch.equal(held.at(torch.arange(len(held))), shares.clamp_min(0))
    assert (shares == -1).any()


def test_edits_are_told_the_rows(said):
    from whatwhere.bottleneck.layer import layer_of
    from whatwhere.bottleneck.tail import Tail
    from whatwhere.studies.bottleneck.study import prepared

    setting = prepared(said.net, said.scenes, said.out, concepts=said.concepts, recipe=said.recipe)
    module = setting.bench.rebuilt(setting.cell(SITE, "ssb", 0))
    held = setting.bench.features(config(said), "test")
    tail = Tail(module, f"{SITE}.site", torch.zeros(1, 3, 32, 48))
    seen, expected = cells(tail, held, layer_of(module))
    own = confusions(tail, held, 10, edit=lambda maps, rows: seen.maps[rows])
    assert torch.equal(own, expected)
    assert torch.equal(confusions(tail, held, 10, rows=torch.tensor([6, 1])), expected[[6, 1]])
    assert not torch.equal(confusions(tail, held, 10, edit=lambda maps, _: maps * 0), expected)


def drawn_scores(seed, n=8, sure=2.0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n, 4, 5), generator=g)
    scores = torch.randn(n, 3, 4, 5, generator=g) + sure * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    labels[torch.rand(labels.shape, generator=g) < 0.1] = 255
    return Cells(scores, labels, torch.rand(n, 2, 4, 5, generator=g))


def test_the_threshold_comes_from_validation_alone():
    groups = (torch.arange(8), torch.arange(8) // 2)
    found = confidence(drawn_scores(0), drawn_scores(1), groups, ("a", "b"))
    assert list(found["measures"]) == [
        "max softmax", "entropy", "temperature scaling", "concepts", "concepts and max softmax",
    ]  # fmt: skip
    held, test = drawn_scores(0), drawn_scores(1)
    m = found["measures"]["max softmax"]
    p, q = (c.scores.softmax(1).amax(1) for c in (held, test))
    odd = (torch.arange(8) % 2 == 1)[:, None, None] & (held.labels != 255)
    right = held.said == held.labels
    limits = sorted(p[odd].tolist())
    expected = next((t for t in limits if right[odd & (p >= t)].float().mean() >= 0.99), math.inf)
    assert m["threshold"] == pytest.approx(expected)
    answered = (q >= expected) & (test.labels != 255)
    assert m["coverage"] == pytest.approx(float(answered.sum() / (test.labels != 255).sum()), abs=1e-6)
    assert m["accuracy"] == pytest.approx(float((test.said == test.labels)[answered].float().mean()))
    assert found["speaking"]
    assert all({name for name, _ in said} == {"a", "b"} for said in found["speaking"].values())


def test_all_right_is_no_reason_to_fail():
    groups = (torch.arange(8), torch.arange(8) // 2)
    sure = drawn_scores(0, sure=100.0)
    found = confidence(sure, sure, groups, ("a", "b"))
    assert "concepts" not in found["measures"]
    assert math.isnan(found["measures"]["max softmax"]["auroc"][0])


def test_a_measure_that_is_not_there_is_told(said):
    row = said.result.row(SITE, "ssb")
    measures = {
        k: {**v, "auroc": [None] * 3, "accuracy": None} for k, v in row.extras["confidence"]["measures"].items()
    }
    lines = _confidence_lines(replace(row, extras={"confidence": {"measures": measures}}))
    assert lines[0]["AUROC [95 %]"] == "all right, or all wrong"
    assert lines[0]["accuracy there"] == "nothing answered"


def test_a_plain_module_is_taken(said, tmp_path, monkeypatch):
    monkeypatch.setattr(result, "write_report", lambda folder, report: folder)  # figures take seconds
    found = ww.bottleneck_study(said.net.module, said.scenes, sites=[SITE], out=tmp_path, kinds=["intact"],
                                concepts=said.concepts, quiet=True)  # fmt: skip
    assert found.row(SITE, "intact").miou == said.result.row(SITE, "intact").miou


def test_a_draw_without_a_rare_class_counts_it_as_all_pictures_do():
    """A class in one group of twenty, and said now and then elsewhere: a third of the draws are without it.

    There it would have an IoU of 0, or be left out of the mean; both shift a third of the draws.
    """
    counts = np.zeros((20, 3, 3))
    counts[:, 0, 0], counts[:, 0, 2], counts[:, 1, 1], counts[:, 1, 0] = 90, 1, 80, 20
    counts[0, 2, 2], counts[0, 2, 0] = 90, 10
    found = _interval(counts, _miou)
    assert found.value == pytest.approx(np.mean([1800 / 2230, 0.8, 0.75]))
    assert found.low <= found.value <= found.high
    assert found.high - found.low < 0.06
    without = _miou(counts[1:].sum(0), counts.sum(0))
    assert without == pytest.approx(np.mean([1710 / 2109, 0.8, 0.75]))


def test_the_interval_of_an_auroc_holds_it_where_confidences_crowd_near_one():
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(30), 500)
    margin = np.abs(10 * rng.random(15000) + np.repeat(rng.normal(0, 0.3, 30), 500))
    right = rng.random(15000) < 1 / (1 + np.exp(-margin))
    sure = 1 / (1 + np.exp(-3 * margin))  # over-confident: most pixels are above 1 - 2^-12
    ranks = _ranks(sure)
    assert (np.diff(ranks[sure.argsort()]) >= 0).all()
    value, low, high = _auroc_interval(
        levels(sure, right), [levels(ranks[group == g], right[group == g], BITS) for g in range(30)]
    )
    exact = [levels(ranks[group == g], right[group == g], 24) for g in range(30)]
    assert low < value < high
    assert [low, high] == pytest.approx(_auroc_interval(levels(sure, right), exact)[1:], abs=2e-4)
