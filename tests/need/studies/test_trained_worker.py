"""What a cell of the study runs: its network, its draws, and its test under a shuffle."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_classifier import small_classifier
from whatwhere.data import Split
from whatwhere.data.sources import Memory
from whatwhere.lab.packed import unpack
from whatwhere.need.studies.trained_worker import build, draws_of, removed, score_in, trained_with
from whatwhere.need.studies.trained_worker import tested as measured
from whatwhere.scores.classes import ACCURACY


def pictures(n: int = 20) -> Split:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split("test", Memory(images), torch.arange(n) % 10, [str(i) for i in range(10)])


def config(method: str, **more) -> dict:
    return {"model": "cifar/vgg11", "options": {"classes": 10, "width": 0.07}, "seed": 3, "method": method, **more}


def test_a_network_is_collapsed_before_its_training_or_as_it_is():
    fresh = ww.load_model("cifar/vgg11", classes=10, width=0.07, seed=3)
    plain = build(config("per-channel", site="features.8")).module.state_dict()
    assert all(torch.equal(v, plain[k]) for k, v in fresh.module.state_dict().items())
    small = build(config("gap_fc", site="features.8")).module.state_dict()
    expected = ww.need.collapse(fresh, "features.8").module.state_dict()
    assert list(small) == list(expected)
    assert all(torch.equal(v, expected[k]) for k, v in small.items())


def test_draws_of_a_test_are_apart_from_those_of_the_training():
    assert trained_with(5).initial_seed() == 1_000_008
    (one,) = draws_of(config("intact", repeats=3), 5)
    assert one.initial_seed() == 2_000_008
    assert [len(draws_of(config(m, repeats=3), 5)) for m in ("gap_fc", "pointwise", "truncate")] == [1, 1, 1]


def test_a_shuffle_goes_on_drawing_from_one_source():
    draws = draws_of(config("per-channel", repeats=3), 5)
    assert len(draws) == 3
    assert draws[0] is draws[1] is draws[2]


def test_a_fixed_permutation_is_that_of_the_training_or_drawn_anew_for_each_test():
    (own,) = draws_of(config("fixed", repeats=3), 5, own=True)
    assert own.initial_seed() == trained_with(5).initial_seed()
    assert [g.initial_seed() for g in draws_of(config("fixed", repeats=3), 5)] == [2_000_008, 2_000_009, 2_000_010]


def test_nothing_is_removed_from_the_intact_and_the_collapsed_network():
    net = small_classifier()
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        before = net.module(x)
        for method in ("intact", "gap_fc", "pointwise-average", "truncate"):
            with removed(net, method, "3", trained_with(0)):
                assert torch.equal(net.module(x), before)
        with removed(net, "per-channel", "0", trained_with(0)):
            assert not torch.equal(net.module(x), before)
        assert torch.equal(net.module(x), before)


def test_a_test_is_an_evaluation_for_each_draw():
    net, split = small_classifier(), pictures()
    draws = [torch.Generator().manual_seed(s) for s in (1, 2)]
    found = measured(net, split, "per-channel", "0", draws, ACCURACY)
    runs = []
    for seed in (1, 2):
        with ww.need.shuffle(net, "0:", mode="per-channel", generator=torch.Generator().manual_seed(seed)):
            runs.append(ww.evaluate(net, split))
    assert found["accuracies"] == [r.accuracy for r in runs]
    assert found["accuracy"] == pytest.approx(np.mean(found["accuracies"]))
    assert unpack(found["hits"]).tolist() == (runs[0].correct.long() + runs[1].correct.long()).tolist()
    assert (found["n"], found["repeats"]) == (20, 2)
    plain = measured(net, split, "intact", None, [torch.Generator()], ACCURACY)
    assert plain["accuracy"] == ww.evaluate(net, split).accuracy


def test_a_test_of_more_than_the_highest_score():
    net, split = small_classifier(), pictures()
    found = measured(net, split, "intact", None, [torch.Generator()], score_in({"score": "top5"}))
    expected = []
    with torch.no_grad():
        for images, labels in split.batches(1):
            scores = net.module(net.prepared(images))[0].tolist()
            expected.append(sum(s > scores[int(labels)] for s in scores) < 5)
    assert unpack(found["hits"]).tolist() == expected
    assert 0 < sum(expected) < 20
    assert score_in({}) is ACCURACY
