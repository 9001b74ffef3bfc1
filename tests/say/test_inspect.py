"""Overlap of channels and concepts against loops over pixels, and against what chance gives."""

import itertools

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say import inspect
from whatwhere.say.inspect import Overlap, auic, inspectability_curve, matched_counts, thresholds_of


def drawn(seed: int = 0, n: int = 3, c: int = 4, k: int = 3, size: tuple[int, int] = (5, 6)):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, c, *size, generator=g), torch.randint(-1, 2, (n, k, *size), generator=g, dtype=torch.int8)


def overlap_of(x, y, limits) -> Overlap:
    seen = Overlap(x.shape[1], y.shape[1], limits)
    seen.update(x, y)
    return seen


def slow_iou(x, y, limit: float, c: int, k: int) -> float:
    both = either = 0
    for i, row, column in itertools.product(range(len(x)), range(x.shape[2]), range(x.shape[3])):
        label = int(y[i, k, row, column])
        if label >= 0:
            on = float(x[i, c, row, column]) > limit
            both += on and label == 1
            either += on or label == 1
    return both / either if either else 0.0


@pytest.mark.parametrize("at_once", [1 << 16, 7])
def test_iou_is_a_loop_over_labelled_pixels(monkeypatch, at_once):
    monkeypatch.setattr(inspect, "PIXELS", at_once)
    x, y = drawn()
    limits = thresholds_of(x, (0.5, 0.1))
    seen = Overlap(4, 3, limits)
    for some, goals in zip(x, y, strict=True):
        seen.update(some[None], goals[None])
    for c, t, k in itertools.product(range(4), range(2), range(3)):
        assert float(seen.iou()[c, t, k]) == pytest.approx(slow_iou(x, y, float(limits[c, t]), c, k), abs=1e-12)
    assert seen.labelled.tolist() == (y >= 0).sum((0, 2, 3)).tolist()
    assert seen.positive.tolist() == (y == 1).sum((0, 2, 3)).tolist()


def test_channels_that_are_concepts_are_perfect():
    _, y = drawn(k=4)
    x = 0.1 + y.clamp_min(0).float()[:, [2, 0, 3, 1]]
    seen = overlap_of(x, y, torch.full((4, 1), 0.5))
    choice = seen.best()
    assert choice.concept.tolist() == [2, 0, 3, 1]
    assert seen.matched(choice).tolist() == [1.0] * 4
    assert auic(seen.score(choice)) == 1.0
    inverted = overlap_of(-x, y, torch.full((4, 1), -0.5))
    assert inverted.iou()[[0, 1, 2, 3], 0, [2, 0, 3, 1]].abs().max() == 0  # high must mean present


def test_an_independent_channel_has_the_iou_of_independent_sets():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(8, 2, 200, 200, generator=g)
    y = (torch.rand(8, 2, 200, 200, generator=g) < torch.tensor([0.3, 0.05]).view(2, 1, 1)).to(torch.int8)
    shares = (0.5, 0.2)
    iou = overlap_of(x, y, thresholds_of(x, shares)).iou()
    for (t, p), (k, q) in itertools.product(enumerate(shares), enumerate((0.3, 0.05))):
        assert iou[:, t, k].tolist() == pytest.approx([p * q / (p + q - p * q)] * 2, abs=0.004)


def test_a_channel_that_is_always_on_scores_the_concepts_share():
    x, y = drawn()
    seen = overlap_of(x, y, torch.full((4, 1), -99.0))
    assert torch.equal(seen.iou()[:, 0], seen.always_on().expand(4, 3))
    assert float(seen.always_on()[1]) == pytest.approx(float((y[:, 1] == 1).sum() / (y[:, 1] >= 0).sum()))


def test_what_happens_where_nothing_is_labelled_counts_nothing():
    x, y = drawn()
    limits, other = thresholds_of(x), x.clone()
    y[:, :, :2] = -1  # rows without any label
    other[:, :, :2] = 50.0
    assert torch.equal(overlap_of(x, y, limits).iou(), overlap_of(other, y, limits).iou())
    y[:, 1] = -1
    assert overlap_of(x, y, limits).iou()[..., 1].abs().max() == 0


def test_choices_are_made_on_one_half_and_scored_on_the_other():
    x, y = drawn(1, n=8)
    limits = thresholds_of(x)
    fit, test = overlap_of(x[:4], y[:4], limits), overlap_of(x[4:], y[4:], limits)
    choice = fit.best()
    for c in range(4):
        for k in range(3):
            tried = [slow_iou(x[:4], y[:4], float(t), c, k) for t in limits[c]]
            assert int(choice.index[c, k]) == tried.index(max(tried))
            at = float(limits[c, choice.index[c, k]])
            assert float(test.score(choice)[c, k]) == pytest.approx(slow_iou(x[4:], y[4:], at, c, k))
        assert int(choice.concept[c]) == int(fit.score(choice)[c].argmax())
        assert float(test.matched(choice)[c]) == float(test.score(choice)[c, choice.concept[c]])


def test_counts_of_pictures_add_up_to_what_is_matched():
    x, y = drawn(2, n=6)
    limits = thresholds_of(x)
    choice = overlap_of(x[:3], y[:3], limits).best()
    counts = matched_counts(x[3:], y[3:], choice)
    assert counts.shape == (3, 4, 2)
    for n, c in itertools.product(range(3), range(4)):
        k, at = int(choice.concept[c]), float(limits[c, choice.index[c, int(choice.concept[c])]])
        on, known, there = x[3 + n, c] > at, y[3 + n, k] >= 0, y[3 + n, k] == 1
        assert counts[n, c].tolist() == [int((on & there).sum()), int(((on | there) & known).sum())]
    total = counts.sum(0).double()
    assert torch.equal(total[:, 0] / total[:, 1], overlap_of(x[3:], y[3:], limits).matched(choice))


def test_choosing_and_scoring_on_the_same_pictures_flatters():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 60, 3, 3, generator=g)
    y = torch.randint(0, 2, (40, 10, 3, 3), generator=g, dtype=torch.int8)
    limits = thresholds_of(x)
    fit, test = overlap_of(x[:20], y[:20], limits), overlap_of(x[20:], y[20:], limits)
    assert auic(fit.matched(fit.best())) > auic(test.matched(fit.best())) + 0.03


@pytest.mark.parametrize("share", [0.5, 0.29, 0.07, 0.001])
def test_thresholds_leave_the_share_asked_for_above(share):
    x = torch.randn(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    above = (x > thresholds_of(x, (share,)).view(3, 1, 1)).sum((0, 2, 3))
    assert above.tolist() == [round(share * 100 - 0.499)] * 3
    assert (x.relu() > thresholds_of(x.relu(), (0.9,)).view(3, 1, 1)).sum((2, 3)).tolist() == [
        (x > 0).sum((2, 3))[0].tolist()
    ]


def test_auic_is_the_area_under_the_curve():
    iou = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
    xi, share = inspectability_curve(iou, points=20_001)
    assert auic(iou) == pytest.approx(float(torch.trapezoid(share, xi)), abs=1e-4)
    assert auic(iou) == pytest.approx(sum(max(row) for row in iou.tolist()) / 50)
    assert auic(iou.amax(1)) == auic(iou)
    xi, share = inspectability_curve(torch.tensor([[0.2, 0.5], [0.1, 0.0]]), points=11)
    assert share.tolist() == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0, 0, 0]


def test_half_precision_around_it_counts_exactly():
    x, y = torch.ones(1, 1, 70, 70), torch.ones(1, 1, 70, 70, dtype=torch.int8)
    with torch.autocast("cpu", torch.bfloat16):
        seen = overlap_of(x, y, torch.zeros(1, 1))
    assert seen.iou().item() == 1.0


def test_wrong_inputs_are_refused():
    x, y = drawn()
    with pytest.raises(InputError, match="thresholds"):
        Overlap(4, 3, torch.zeros(3, 2))
    seen = Overlap(4, 3, torch.zeros(4, 2))
    for wrong in (x[:, :3], x[..., :2], x[:2], x[0]):
        with pytest.raises(InputError, match="activations"):
            seen.update(wrong, y)
    with pytest.raises(InputError, match="not finite"):
        seen.update(x / 0, y)
    with pytest.raises(InputError, match="other than 1"):
        seen.update(x, y * 2)
    with pytest.raises(InputError, match="other thresholds"):
        seen.score(Overlap(4, 3, torch.ones(4, 2)).best())
    with pytest.raises(InputError, match="shares"):
        thresholds_of(x, (0.5, 1.0))
    with pytest.raises(InputError, match="iou"):
        auic(torch.zeros(2, 2, 2))


def test_counts_go_on_beyond_what_single_precision_counts():
    x, y = drawn()
    limits = thresholds_of(x)
    seen, one = Overlap(4, 3, limits), overlap_of(x, y, limits)
    seen._counts += 2**24
    seen.update(x, y)
    assert torch.equal(seen._counts - 2**24, one._counts)
