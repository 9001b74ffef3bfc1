"""Distillation against its formula, written out for one picture after the other."""

import math

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.network import Preprocessing
from whatwhere.training.augment import augment
from whatwhere.training.distil import Asked, Distil, Remembered, Target, divergence
from whatwhere.training.feed import Feed
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe

RECIPE = Recipe(epochs=1, batch_size=4, crop_padding=0, flip=False)
N, CLASSES = 6, 5


def softened(scores: list[float], temperature: float) -> list[float]:
    powers = [math.exp(s / temperature) for s in scores]
    return [p / sum(powers) for p in powers]


def slow(scores, wanted, labels, weight, temperature, smoothing=0.0) -> float:
    total = 0.0
    for own, other, label in zip(scores.tolist(), wanted.tolist(), labels.tolist(), strict=True):
        q, p = softened(own, temperature), softened(other, temperature)
        apart = sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
        hard = 0.0
        if weight < 1:
            logs = [math.log(a) for a in softened(own, 1.0)]
            hard = -(1 - smoothing) * logs[label] - smoothing * sum(logs) / len(logs)
        total += weight * temperature**2 * apart + (1 - weight) * hard
    return total / len(labels)


def drawn(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    scores, wanted = (3 * torch.randn(N, CLASSES, generator=g) for _ in range(2))
    return scores, wanted, torch.randint(0, CLASSES, (N,), generator=g)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize(("weight", "smoothing"), [(0.3, 0.0), (0.9, 0.1), (1.0, 0.0)])
def test_the_loss_is_the_formula(weight, temperature, smoothing):
    scores, wanted, labels = drawn()
    recipe = Recipe(epochs=1, label_smoothing=smoothing)
    loss = Distil(recipe, Remembered(wanted), weight, temperature).loss(scores, Target(labels, wanted))
    assert loss.value.item() == pytest.approx(slow(scores, wanted, labels, weight, temperature, smoothing), rel=1e-5)
    assert loss.right == sum(int(s.argmax() == label) for s, label in zip(scores, labels, strict=True))
    assert loss.counted == N


def test_it_is_zero_and_least_at_the_teachers_own_scores():
    scores, wanted, _ = drawn()
    assert divergence(wanted + 7, wanted, 2.0).item() == pytest.approx(0, abs=1e-6)  # a constant changes nothing
    scores.requires_grad_(True)
    divergence(scores, wanted, 2.0).backward()
    slope = (2.0 * (torch.softmax(scores / 2, 1) - torch.softmax(wanted / 2, 1)) / N).detach()
    assert torch.allclose(scores.grad, slope, atol=1e-6)


def test_without_labels_nothing_is_counted_and_a_weight_of_one_learns():
    scores, wanted, _ = drawn()
    none = torch.full((N,), -1)
    loss = Distil(RECIPE, Remembered(wanted), 1.0, 2.0).loss(scores, Target(none, wanted))
    assert (loss.right, loss.counted) == (0, 0)
    assert loss.value.item() == pytest.approx(slow(scores, wanted, none, 1.0, 2.0), rel=1e-5)


@pytest.mark.parametrize("padding", [0, 2])
def test_the_teacher_sees_the_pictures_as_they_were_augmented(padding, pictures, small_net):
    split, teacher = pictures(), small_net(seed=3)
    recipe = Recipe(epochs=1, batch_size=4, crop_padding=padding, flip=bool(padding))
    task = Distil(recipe, Asked(teacher), 0.5, 2.0)
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(1))[:8]
    seen = list(task.batches(split, order, torch.Generator().manual_seed(5), Feed(Preprocessing())))
    draws = torch.Generator().manual_seed(5)
    for (images, target), rows in zip(seen, order.split(4), strict=True):
        stored = torch.cat([next(split.batches(1, order=row[None]))[0] for row in rows])
        own = augment(stored, recipe, draws)
        assert torch.equal(images, own)
        with torch.no_grad():
            alone = torch.cat([teacher.module.eval()(teacher.preprocessing.normalise(each[None])) for each in own])
        assert torch.allclose(target.scores, alone, atol=1e-6)
        assert torch.equal(target.labels, split.labels[rows])


def test_scores_that_are_remembered_train_as_those_that_are_asked_for(pictures, small_net):
    split, teacher = pictures(), small_net(seed=3)
    images, _ = next(split.batches(len(split)))
    with torch.no_grad():
        table = teacher.module.eval()(teacher.preprocessing.normalise(images))
    weights = []
    for each in (Asked(teacher), Remembered(table)):
        net = small_net()
        fit(net, split, RECIPE, device="cpu", objective=Distil(RECIPE, each, 0.7, 3.0))
        weights.append(net.module.state_dict())
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-6) for k in weights[0])
    assert not torch.equal(weights[0]["5.weight"], small_net().module.state_dict()["5.weight"])
    assert not teacher.module.training


def test_a_network_learns_its_teacher_without_labels(pictures, small_net):
    split, teacher = pictures(n=64, labelled=False), small_net(seed=3)
    recipe = Recipe(epochs=30, batch_size=16, lr=0.05, crop_padding=0, flip=False)
    net = small_net()
    history = fit(net, split, recipe, device="cpu", objective=Distil(recipe, Asked(teacher), 1.0, 2.0))
    assert history.epochs[-1]["loss"] < 0.2 * history.epochs[0]["loss"]


def test_what_cannot_be_learned_is_refused(pictures, small_net):
    scores, wanted, labels = drawn()
    with pytest.raises(InputError, match=r"the teacher gives scores \(6, 4\), the network \(6, 5\)"):
        Distil(RECIPE, Remembered(wanted[:, :4]), 1.0, 2.0).loss(scores, Target(labels, wanted[:, :4]))
    task = Distil(RECIPE, Asked(small_net()), 0.5, 2.0)
    with pytest.raises(InputError, match="these pictures have no labels"):
        fit(small_net(), pictures(labelled=False), RECIPE, device="cpu", objective=task)
    with pytest.raises(InputError, match="NaN or infinite"):
        Distil(RECIPE, Remembered(wanted), 1.0, 2.0).check(scores * float("inf"), pictures(labelled=False))
