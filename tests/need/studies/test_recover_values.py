"""Values at a site in the place of pictures."""

import pytest
import torch

import whatwhere as ww
from small_stripes import data, network
from whatwhere.graph.halves import Halves
from whatwhere.need.studies import recover_values
from whatwhere.need.studies.recover_values import Values, behind, fits, joined, scores_of
from whatwhere.site_table import list_sites


def halves(net: ww.Network) -> Halves:
    return Halves(net, next(s for s in list_sites(net, input_size=(3, 8, 8)) if s.name == "1"))


@pytest.fixture
def net() -> ww.Network:
    made = network()
    made.input_size = (3, 8, 8)
    return made


def test_values_are_served_in_any_order_with_the_labels_of_their_pictures():
    split = data().test
    values = torch.randn(len(split), 2, 3)
    made = Values(split, values)
    order = torch.randperm(len(split))[:25]
    parts = list(made.batches(10, order=order))
    assert [len(v) for v, _ in parts] == [10, 10, 5]
    assert torch.equal(torch.cat([v for v, _ in parts]), values[order])
    assert torch.equal(torch.cat([n for _, n in parts]), split.labels[order])
    assert (made.fingerprint, made.classes, len(made)) == (split.fingerprint, split.classes, len(split))


def test_what_lies_behind_gives_the_scores_of_the_whole(net):
    split = data().test
    found = behind(net, halves(net), [split])
    values = found.values(split)
    images, _ = next(split.batches(len(split)))
    with torch.no_grad():
        whole = net.module(net.preprocessing.normalise(images))
        seen = net.module[0](net.preprocessing.normalise(images))
        assert torch.allclose(found.net.module(found.net.prepared(values)), whole, atol=1e-6)
    assert torch.allclose(values, seen, atol=1e-6)
    assert ww.evaluate(found.net, Values(split, values)).correct.tolist() == ww.evaluate(net, split).correct.tolist()
    assert torch.allclose(scores_of(net, split), whole, atol=1e-6)


def test_values_that_do_not_fit_into_memory_are_not_kept(net, monkeypatch):
    monkeypatch.setattr(recover_values, "memory_budget", lambda: 4 * 60 * 512)
    split = data().test  # 60 pictures, of 8 x 8 x 8 values each
    assert fits(60, (8, 8, 8))
    assert not fits(60, (8, 8, 9))
    assert behind(net, halves(net), [split]) is not None
    assert behind(net, halves(net), [split, split]) is None


def test_batches_are_joined_without_gradients():
    parts = [torch.ones(2, 3, requires_grad=True), torch.zeros(1, 3)]
    found = joined(iter(parts), data().test, "some")
    assert found.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert not found.requires_grad
