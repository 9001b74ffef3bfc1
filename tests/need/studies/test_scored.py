"""Curves of every score: chosen, measured by plain passes, resumed, and said in its own words."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.classification import MulticlassF1Score

import whatwhere as ww
from small_classifier import small_classifier
from small_segmenter import small_segmenter
from whatwhere.cli import main
from whatwhere.data import Data, Split
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.lab import parts
from whatwhere.need.studies import chunk
from whatwhere.need.studies.chunk import seed_of_draw
from whatwhere.need.studies.result import NeedResult
from whatwhere.need.studies.scored import chance_of, commonest, described, score_of
from whatwhere.scores.against_intact import AGREEMENT, DENSE_AGREEMENT, FEATURE, KL
from whatwhere.scores.classes import ACCURACY, TOP5
from whatwhere.scores.label_maps import miou


def pictures(labels: torch.Tensor | None = None, n: int = 24) -> Data:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    given = torch.full((n,), -1) if labels is None else labels
    classes = () if labels is None else [str(i) for i in range(10)]
    return Data("some", {"test": Split("test", Memory(images), given, classes)})


def said(net: ww.Network, data: Data) -> torch.Tensor:
    images, _ = next(data.test.batches(100))
    with torch.no_grad():
        return net.module(net.prepared(images))


@pytest.fixture(scope="module")
def streets() -> Scenes:
    """Eight test pictures, of which two follow each other."""
    made = drawn_streets(train=1, validation=1, test=8, size=(32, 48))
    test = made.test
    grouped = SceneSplit("test", test.pictures, test.maps, test.classes, torch.arange(8) // 2, test.values)
    return replace(made, splits={**made.splits, "test": grouped})


@pytest.fixture(scope="module")
def segmenter(streets) -> ww.Network:
    return ww.Network(small_segmenter(len(streets.classes)), name="small")


class Backbone(nn.Module):
    num_classes = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, x):
        return self.last(self.conv(x).relu()).mean((2, 3))


def test_the_usual_score_of_pictures_and_networks(streets, segmenter):
    labelled, plain = pictures(torch.arange(24) % 10).test, pictures().test
    net, backbone = small_classifier(), ww.Network(Backbone())
    assert score_of(None, labelled, net) is ACCURACY
    assert score_of(None, plain, net) is AGREEMENT
    assert score_of(None, labelled, backbone) is score_of(None, plain, backbone) is FEATURE
    assert score_of(None, streets.test, segmenter) == miou(len(streets.classes))
    assert score_of("agreement", streets.test, segmenter) is DENSE_AGREEMENT
    assert score_of(KL, labelled, net) is KL
    tokens = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Flatten(2))
    assert score_of(None, plain, ww.Network(tokens)) is FEATURE
    dense = nn.Conv2d(3, 4, 3, padding=1)
    assert score_of(None, plain, ww.Network(dense)) is DENSE_AGREEMENT
    assert score_of(None, plain, ww.Network(nn.Conv2d(3, 4, 3, 2))) is FEATURE
    with pytest.raises(InputError, match="score=3: give a name"):
        score_of(3, plain, net)
    with pytest.raises(InputError, match="score='nowhere_at_all:f': there is no module"):
        score_of("nowhere_at_all:f", plain, net)
    with pytest.raises(InputError, match="data has one class"):
        score_of(None, Split("test", plain.source, torch.zeros(24), ["a"]), net)


def test_what_naming_the_commonest_classes_has(streets):
    labels = torch.tensor([0] * 12 + [1] * 6 + [2] * 3 + [3, 4, 5])
    split = pictures(labels).test
    assert commonest(labels) == 0.5
    assert chance_of(ACCURACY, split) == 0.5
    assert chance_of(TOP5, split) == pytest.approx(23 / 24)
    assert chance_of(KL, split) is None
    maps = torch.stack([m["class"] for _, m in streets.test.rows()]).long()
    there = maps[maps != 255].bincount()
    score = miou(len(streets.classes))
    everywhere = nn.functional.one_hot(torch.full_like(maps, int(there.argmax())), len(streets.classes))
    evidence = score.evidence(everywhere.permute(0, 3, 1, 2).float(), maps, None)
    assert chance_of(score, streets.test) == pytest.approx(score.value(evidence))


def test_agreement_is_the_accuracy_when_the_intact_networks_classes_are_the_labels():
    net = small_classifier()
    options = {
        "methods": ("per-channel", "mean", "gap_fc"),
        "repeats": 2,
        "batch_size": 10,
        "within": None,
        "quiet": True,
    }
    agreed = ww.need.curve(net, pictures(), **options)
    right = ww.need.curve(net, pictures(said(net, pictures()).argmax(1)), **options)
    assert agreed.score == described(AGREEMENT)
    assert right.score == {}
    assert [(p.site, p.method, p.score.mean, p.values) for p in agreed.points] == [
        (p.site, p.method, p.score.mean, p.values) for p in right.points
    ]
    assert [(p.drop.mean, p.drop.high) for p in agreed.points] == [(p.drop.mean, p.drop.high) for p in right.points]
    assert min(p.drop.low for p in agreed.points) == 0.0 > min(p.drop.low for p in right.points)
    assert (agreed.intact[0].score.mean, agreed.intact[0].score.low, agreed.intact[0].score.high) == (1.0, 1.0, 1.0)
    assert agreed.intact[0].score.covers == "nothing: it is compared with itself"


@pytest.mark.parametrize("score", ["kl", "feature"])
def test_distances_from_the_intact_network_are_those_of_full_passes(score):
    net, data, draws = small_classifier(), pictures(), 2
    found = ww.need.curve(net, data, score=score, methods="per-channel", repeats=draws, batch_size=24, quiet=True)
    intact = said(net, data).double()
    for p in found.points:
        values = []
        for r in range(draws):
            with ww.need.shuffle(net, f"{p.site}:", seed=seed_of_draw(0, "per-channel", p.site, r, 0)):
                ours = said(net, data).double()
            if score == "kl":
                a, b = intact.softmax(1), ours.softmax(1)
                values.append((a * (a / b).log()).sum(1))
            else:
                values.append((ours * intact).sum(1) / ours.norm(dim=1) / intact.norm(dim=1))
        each = torch.stack(values)
        assert p.values == pytest.approx(each.mean(1).tolist(), abs=1e-6)
        change = p.score.mean if score == "kl" else 1 - p.score.mean
        assert p.drop is not None
        assert p.drop.mean == pytest.approx(change, abs=1e-9)
        assert p.drop.mean > 0
        assert (p.drop.low, p.drop.high) == pytest.approx(
            sorted((p.score.low, p.score.high) if score == "kl" else (1 - p.score.low, 1 - p.score.high))
        )


SEGMENTED = {"methods": ("per-channel", "mean"), "repeats": 2, "batch_size": 3, "within": None, "quiet": True}


@pytest.mark.parametrize("reach", ["from", 1])
def test_the_miou_of_a_segmenter_is_that_of_full_passes(segmenter, streets, reach):
    """One convolution alone, or from there on, in draws that three pictures share."""
    found = ww.need.curve(segmenter, streets, reach=reach, **SEGMENTED)
    assert {p.site for p in found.points} == {"front.0", "middle.0", "head.0"}
    assert found.intact[0].score.mean == pytest.approx(ww.evaluate(segmenter, streets).miou, abs=1e-12)
    score = miou(len(streets.classes))
    p = next(p for p in found.points if p.site == "middle.0" and p.method == "per-channel")
    for r, value in enumerate(p.values):
        evidence = []
        for number, (images, maps) in enumerate(streets.test.batches(3)):
            seed = seed_of_draw(0, "per-channel", p.site, r, number)
            with torch.no_grad(), ww.need.shuffle(segmenter, p.site if reach == 1 else f"{p.site}:", seed=seed):
                evidence += score.evidence(segmenter.module(segmenter.prepared(images)), maps, None)
        assert value == pytest.approx(score.value(evidence), abs=1e-12)
    assert p.score.covers == "groups of test pictures and draws"
    assert [t.title for t in found.report().tables] == ["mIoU at every depth"]
    assert "mIoU %" in found.table()[0]


def test_label_maps_without_a_labelled_pixel_have_no_miou(segmenter, streets):
    picture, labels = streets.test[0]
    none = Memory(torch.full_like(labels["class"], 255)[None])
    alone = SceneSplit("test", Memory(picture[None]), {"class": none}, streets.test.classes)
    scenes = Scenes("s", {"test": alone})
    with pytest.raises(InputError, match=r"no pixel of the label maps of its 1 picture is labelled.*'agreement'"):
        ww.need.curve(segmenter, scenes)
    assert score_of("agreement", scenes.test, segmenter).of_intact


def test_a_network_that_gives_a_dict_is_measured_as_its_map(segmenter, streets):
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = segmenter.module

        def forward(self, x):
            return {"out": self.net(x), "aux": x}

    plain = ww.need.curve(segmenter, streets, sites="middle.0", **SEGMENTED)
    packed = ww.need.curve(ww.Network(Packed()), streets, sites="net.middle.0", **SEGMENTED)
    # A draw's seed knows its site's name, so that shuffles differ; means and the intact network do not.
    assert [p.score for p in packed.points if p.method == "mean"] == [
        p.score for p in plain.points if p.method == "mean"
    ]
    assert packed.intact == plain.intact


def test_a_collapsed_segmenter_says_one_class_and_the_page_says_so(segmenter, streets):
    found = ww.need.curve(segmenter, streets, methods="gap_fc", sites="head.0", quiet=True)
    (p,) = found.points
    assert 0 <= p.score.mean < 2 * chance_of(miou(len(streets.classes)), streets.test)
    assert any("says one class for the whole picture" in note for note in found.notes)
    assert "mIoU" in found.conclusion


def test_a_set_score_that_is_killed_again_and_again_ends_with_the_same_numbers(segmenter, streets, tmp_path):
    class Killed(BaseException):
        pass

    def killed_after(patch: pytest.MonkeyPatch, draws: int) -> None:
        patch.setattr(parts, "EVERY", 0.0)
        patch.setattr(parts.Parts, "__exit__", lambda *_: None)
        real, left = chunk.packed, [draws]

        def dying(*args):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*args)

        patch.setattr(chunk, "packed", dying)

    options = {**SEGMENTED, "sites": ("middle.0", "head.0")}
    whole = ww.need.curve(segmenter, streets, out=tmp_path / "whole", **options)
    for _ in range(20):
        with pytest.MonkeyPatch.context() as patch:
            killed_after(patch, 7)
            try:
                again = ww.need.curve(segmenter, streets, out=tmp_path / "killed", **options)
                break
            except Killed:
                continue
    assert (again.points, again.intact) == (whole.points, whole.intact)
    cells = [
        {f.name: json.loads(f.read_text())["result"] for f in (tmp_path / w / "cells").iterdir()}
        for w in ("whole", "killed")
    ]
    assert cells[0] == cells[1]
    assert NeedResult.load(tmp_path / "whole").points == whole.points


def test_options_that_do_not_go_with_a_score_are_refused(segmenter, streets):
    with pytest.raises(
        InputError, match=r"tolerance=0.1: it is for scores of single pictures, and mIoU is of the whole"
    ):
        ww.need.curve(segmenter, streets, tolerance=0.1, quiet=True)
    with pytest.raises(InputError, match="within=2: give a share"):
        ww.need.curve(segmenter, streets, within=2, quiet=True)
    with pytest.raises(InputError, match="these pictures come with label maps; score='accuracy' needs class labels"):
        ww.need.curve(segmenter, streets, score="accuracy", quiet=True)
    with pytest.raises(InputError, match="score='miuo' matches nothing"):
        ww.need.curve(segmenter, streets, score="miuo", quiet=True)


def doubt(outputs, targets):
    """How much less than all of the probability the most probable class has."""
    return 1 - outputs.softmax(1).max(1).values


doubt.higher_is_better = False  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", [doubt, MulticlassF1Score(10), "torchmetrics.classification:MulticlassF1Score"])
def test_a_score_of_the_users_own_is_measured_on_every_removal(given):
    net, data = small_classifier(), pictures(torch.arange(24) % 10)
    options = {"methods": "mean", "sites": "3", "batch_size": 10, "within": None, "quiet": True}
    (p,) = ww.need.curve(net, data, score=given, **options).points
    intact = said(net, data)
    with ww.need.pool(net, "3:"):
        removed = said(net, data)
    call = doubt if given is doubt else MulticlassF1Score(10)
    values = [float(call(outputs, data.test.labels).mean()) for outputs in (removed, intact)]
    assert p.score.mean == pytest.approx(values[0], abs=1e-6)
    assert p.drop is not None
    assert p.drop.mean == pytest.approx((values[0] - values[1]) * (1 if given is doubt else -1), abs=1e-6)


def test_another_score_has_its_own_folder(tmp_path):
    options = {"methods": "mean", "within": None, "quiet": True, "out": tmp_path}
    ww.need.curve(small_classifier(), pictures(), **options)
    with pytest.raises(InputError, match="score"):
        ww.need.curve(small_classifier(), pictures(), score="kl", **options)


def test_a_folder_of_pictures_without_labels_end_to_end(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "some").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "some" / f"{i}.png")
    words = ["need", "curve", "--model", "cifar/vgg11", "--width", "0.0625", "--data", tmp_path / "some"]
    words += [
        "--methods",
        "mean,gap_fc",
        "--sites",
        "last 30%",
        "--out",
        tmp_path / "curve",
        "--quiet",
        "true",
        "--within",
        "1",
    ]
    main([*map(str, words)])
    assert "Within a loss of 100.0 points" in capsys.readouterr().out
    found = NeedResult.load(tmp_path / "curve")
    assert found.score == described(AGREEMENT)
    assert {p.method for p in found.points} == {"mean", "gap_fc"}
    assert "agreement %" in (tmp_path / "curve" / "table.csv").read_text()
    assert "Agreement with the intact network at every depth" in (tmp_path / "curve" / "index.html").read_text()
    assert list(found.to_frame().columns).count("score.mean") == 1


def test_a_result_without_a_score_is_of_accuracy():
    e = Estimate(0.5, 0.4, 0.6, 0.0, 10, 1)
    found = NeedResult("test-time", "net", {}, {}, {}, (), ())
    assert found.measured is ACCURACY
    assert found.named({"score": e, "site": "a"}) == {"accuracy": e, "site": "a"}
    of_kl = replace(found, score=described(KL))
    assert of_kl.measured.phrase == KL.phrase
    assert of_kl.named({"score": e}) == {"score": e}
