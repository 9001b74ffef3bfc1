"""The course of a fine-tuning: what is asked of it, which pictures it has, and the quick way beside the slow one."""

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from small_stripes import data, network, pictures
from whatwhere.data import Split
from whatwhere.errors import InputError
from whatwhere.intervals import over_networks
from whatwhere.need.studies import recover_course
from whatwhere.need.studies.recover_course import Course, Within, asked_of, parted, right_of
from whatwhere.need.studies.recover_values import scores_of
from whatwhere.scores.classes import TOP5
from whatwhere.training.distil import Asked, Remembered
from whatwhere.training.fit import fit

RECIPE = ww.Recipe(epochs=3, batch_size=16, lr=0.05, crop_padding=0, flip=False)
SIZE = (3, 8, 8)


def study(**options):
    return ww.need.Recover(network(), data(), sites=("0",), **options)


def deep(seed: int = 0) -> ww.Network:
    """Two convolutions with batch norms, dropout before and behind the second."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.2)]
        second = [nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout(0.2)]
        module = nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
        for m in (module[1], module[5]):
            m.running_mean.normal_(std=0.1)
            m.running_var.uniform_(0.5, 1.5)
    return ww.Network(module.eval(), name="deep", input_size=SIZE)


def course(site: str | None = "4", recipe=RECIPE, **asked) -> Course:
    original = deep()
    config = {"site": site, "seed": 0, "recipe": recipe.to_dict(), **asked}
    return Course(ww.need.collapse(original, site) if site else deep(), original, data().train, config)


def run(made: Course) -> dict[str, torch.Tensor]:
    net, train, options = made.given()
    fit(net, train, made.recipe, device="cpu", seed=0, **options)
    return made.net.module.state_dict()


PREFIX = {"freeze": "prefix"}
DISTIL = {"distill": {"weight": 0.7, "temperature": 2.0}}
NORMS = {"norms": "keep"}


def test_only_what_differs_from_a_plain_fine_tuning_is_asked():
    assert asked_of(study()) == {}
    found = asked_of(study(freeze="prefix", norms="keep", distill=1, temperature=3, until="allowed", allowed=5))
    assert found == {
        "freeze": "prefix",
        "norms": "keep",
        "distill": {"weight": 1.0, "temperature": 3.0},
        "until": {"allowed": 5.0, "validation": 0.2},
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"freeze": "all"}, "freeze='all': choose 'nothing' or 'prefix'"),
        ({"norms": "drop"}, "norms='drop': choose 'learn' or 'keep'"),
        ({"until": "never"}, "until='never': choose 'end' or 'allowed'"),
        ({"distill": 1.5}, "distill=1.5: give a weight from 0"),
        ({"temperature": 0}, "temperature=0: give a number above 0"),
        ({"allowed": -1}, "allowed=-1: give points"),
        ({"validation": 1.0}, "validation=1.0: give a share"),
        ({"validation": float("nan")}, "validation=nan"),
    ],
)
def test_values_out_of_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        asked_of(study(**given))


def test_held_out_pictures_are_none_that_are_learned_and_of_every_class():
    train = pictures("stripes", 100, 0)
    learned, held = parted(train, {"until": {"allowed": 30.0, "validation": 0.25}})
    assert (len(learned), len(held)) == (75, 25)
    assert abs(int(held.labels.sum()) * 2 - 25) == 1
    stored = {bytes(x.numpy().tobytes()) for x in next(train.batches(100))[0]}
    ours, others = ({bytes(x.numpy().tobytes()) for x in next(s.batches(100))[0]} for s in (learned, held))
    assert not ours & others
    assert ours | others == stored
    assert parted(train, {}) == (train, None)


def test_so_few_that_no_training_could_end_are_refused():
    with pytest.raises(InputError, match=r"20 pictures would be held out, on which even equal answers leave"):
        parted(pictures("stripes", 100, 0), {"until": {"allowed": 2.0, "validation": 0.2}})
    with pytest.raises(InputError, match="0 pictures would be held out"):
        parted(pictures("stripes", 100, 0), {"until": {"allowed": 50.0, "validation": 0.001}})


@pytest.mark.parametrize("low", [True, False])
def test_enough_is_decided_by_the_end_of_the_interval(low):
    net, held = deep(), data().test
    right = ww.evaluate(net, held).correct.numpy().copy()
    own = right.copy()
    right[:6] = True
    e = over_networks((right.astype(float) - own)[None], counted=True)
    allowed = 100 * e.high + (-0.01 if low else 0.01)
    said = Within(held, right, allowed)(net)
    assert said["enough"] is (not low)
    assert [said[k] for k in ("behind_low", "behind", "behind_high", "held_out")] == [e.low, e.mean, e.high, 60]
    assert 100 * e.mean < allowed


@pytest.mark.parametrize("asked", [PREFIX, PREFIX | DISTIL, PREFIX | NORMS, PREFIX | DISTIL | NORMS])
@pytest.mark.parametrize("site", ["4", None])
def test_values_that_are_computed_once_give_the_weights_of_the_slow_way(site, asked, monkeypatch):
    if site is None:
        asked = {**asked, "frozen_before": "4"}
    quick = course(site, **asked)
    assert quick.behind is not None
    weights = run(quick)
    monkeypatch.setattr(recover_course, "behind", lambda *_: None)
    monkeypatch.setattr(recover_course, "fits", lambda *_: False)
    slow = course(site, **asked)
    others = run(slow)
    assert slow.behind is None
    assert weights.keys() == others.keys()
    for name in weights:
        assert torch.allclose(weights[name], others[name], rtol=1e-5, atol=1e-6), name
    start = course(site).net.module.state_dict()
    assert not torch.allclose(weights["10.weight"], start["10.weight"], atol=1e-3)


@pytest.mark.parametrize("recipe", [RECIPE, ww.Recipe(epochs=2, batch_size=16, lr=0.05, crop_padding=1)])
@pytest.mark.parametrize("site", ["4", None])
def test_a_frozen_prefix_is_bit_for_bit_what_it_was(site, recipe):
    made = course(site, recipe, **PREFIX, **({} if site else {"frozen_before": "4"}))
    before = {k: v.clone() for k, v in made.net.module.state_dict().items()}
    assert (made.behind is None) == recipe.flip
    after = run(made)
    same = {k.split(".")[0] for k in after if torch.equal(after[k], before[k])}
    changed = {k.split(".")[0] for k in after if not torch.equal(after[k], before[k])}
    assert (same, changed) == ({"0", "1"}, {"4", "5", "10"})
    assert all(p.requires_grad for p in made.net.module.parameters())
    loose = run(course(site, recipe))
    assert not any(torch.equal(loose[k], before[k]) for k in before if k.split(".")[0] in "01")


def test_norms_that_are_kept_learn_gains_and_not_statistics():
    made = course(**NORMS)
    before = {k: v.clone() for k, v in made.net.module.state_dict().items()}
    after = run(made)
    same = {k for k in after if torch.equal(after[k], before[k])}
    assert same == {f"{i}.{name}" for i in "15" for name in ("running_mean", "running_var", "num_batches_tracked")}


def test_the_original_teaches_from_memory_only_if_pictures_are_the_same_each_time():
    same = course(**DISTIL).objective
    assert isinstance(same.teacher, Remembered)
    assert (same.weight, same.temperature) == (0.7, 2.0)
    drawn = course(recipe=ww.Recipe(epochs=1, batch_size=16), **DISTIL)
    assert isinstance(drawn.objective.teacher, Asked)
    assert drawn.objective.teacher.net is drawn.original
    assert course().objective is None


def test_what_one_cell_computed_serves_the_next():
    first = course(**PREFIX, **DISTIL)
    weights = {k: v.clone() for k, v in run(first).items()}
    assert set(first.kept) == {("4", "learned"), ("4", "4", "learned"), ("scores",)}
    maps, pooled = first.kept[("4", "learned")], first.kept[("4", "4", "learned")]
    assert torch.equal(maps.mean((2, 3), keepdim=True), pooled)
    control = course(None, **PREFIX, **DISTIL, frozen_before="4")
    control.kept.update(first.kept)
    assert control.given()[1].values is maps  # without another pass
    pooled.zero_()
    again = course(**PREFIX, **DISTIL)
    again.kept.update(first.kept)
    assert not torch.allclose(run(again)["10.weight"], weights["10.weight"], atol=1e-4)


def test_the_control_is_trained_to_the_end():
    ends = {"until": {"allowed": 60.0, "validation": 0.25}}
    for site in ("4", None):
        made = course(site, **PREFIX, **ends, **({} if site else {"frozen_before": "4"}))
        net, train, options = made.given()
        assert len(train) == 96
        assert (options["until"] is None) == (site is None)
        history = fit(net, train, made.recipe, device="cpu", seed=0, **options)
        assert len(history.epochs) == (1 if site else 3)


def test_a_training_ends_by_the_score_that_was_asked_for():
    """Top-5 of scores that are written out: a slow count of the five highest."""
    held = Split("held", pictures("stripes", 40, 0).source, torch.arange(40) % 8, list("abcdefgh"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = ww.Network(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 8)), name="n", input_size=SIZE)
    rows = zip(scores_of(net, held), held.labels, strict=True)
    slow = [int(label) in sorted(range(8), key=lambda c: -row[c])[:5] for row, label in rows]
    assert 0.4 < sum(slow) / 40 < 1
    assert right_of(net, held, TOP5).tolist() == slow
    record = Within(held, np.ones(40, dtype=bool), 50.0, TOP5)(net)
    assert record["behind"] == pytest.approx(1 - sum(slow) / 40)
    assert record["enough"] == (record["behind_high"] <= 0.5)
