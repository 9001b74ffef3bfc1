"""Scores of boxes as a study takes them: the same numbers as an evaluation, resamples, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from small_boxes import CLASSES, drawn
from small_detector import pictures, trained
from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.need.shuffling import shuffle
from whatwhere.need.studies.chunk import seed_of_draw
from whatwhere.need.studies.curve import curve
from whatwhere.network import Network
from whatwhere.scores.boxes import BOXES, USUAL, box_scores
from whatwhere.scores.named import checked, score_named, usual_score
from whatwhere.site import evaluating
from whatwhere.training.evaluate import evaluate


def test_evidence_of_batches_gives_what_the_evaluation_gives() -> None:
    net, test = trained(), pictures().test.take(20)
    with evaluating(net.module):
        given = [(net.module(net.prepared(images)), objects) for images, objects in test.batches(8)]
    found = evaluate(net, test)
    expected = {"map": found.map, "map50": found.map50, "map50-2007": found.map50_2007, "presence": found.presence}
    for name, score in box_scores(len(test.classes)).items():
        evidence = [e for outputs, objects in given for e in score.evidence(outputs, objects, None)]
        assert score.value(evidence) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize("name", BOXES)
def test_resamples_are_values_of_the_drawn_pictures(name: str) -> None:
    score = box_scores(CLASSES)[name]
    evidence = score.evidence(*drawn(10, seed=2), None)
    times = np.random.default_rng(0).multinomial(10, np.full(10, 0.1), 3)
    copies = [score.value([e for e, n in zip(evidence, t, strict=True) for _ in range(n)]) for t in times.tolist()]
    assert score.resampled(evidence, times) == pytest.approx(copies, abs=1e-12)


def test_names_what_they_need_and_what_is_usual() -> None:
    assert usual_score("boxes", 4, True) == score_named(USUAL, 4)
    assert all(score_named(name, 4).needs == "boxes" for name in BOXES)
    with pytest.raises(InputError, match="score='map' needs boxes for each picture"):
        checked(score_named("map", 4), "class labels", "data")
    with pytest.raises(InputError, match="detects class 2, but there are 2"):
        score_named("map", 2).check(
            [{"boxes": torch.rand(1, 4), "scores": torch.ones(1), "labels": torch.tensor([2])}], 0
        )


def test_a_detectors_curve_is_the_evaluation_under_the_same_shuffles(tmp_path) -> None:
    """Draw by draw as a full pass under the intervention; the classes stay where the last map is shuffled, exactly."""
    net, data = trained(), replace(pictures(), splits={"test": pictures().test.take(24)})
    options = {"sites": ("backbone.5.2", "backbone.4.0"), "reach": 1, "methods": ("shared",), "repeats": 2}
    found = curve(net, data, out=tmp_path, quiet=True, batch_size=24, score="map50", **options)
    assert found.intact[0].score.mean == pytest.approx(evaluate(net, data).map50)
    for p in found.points:
        each = []
        for repeat in range(2):
            with shuffle(net, p.site, mode="shared", seed=seed_of_draw(0, "shared", p.site, repeat, 0)):
                each.append(evaluate(net, data).map50)
        assert p.values == pytest.approx(each)
        assert p.drop.low > 0.4
    stays = curve(net, data, quiet=True, batch_size=24, score="presence", **{**options, "sites": "backbone.5.2"})
    assert stays.points[0].drop.mean == pytest.approx(0, abs=1e-6)
    assert stays.intact[0].score.mean > 0.8


def test_a_detector_is_not_collapsed_and_another_network_finds_no_boxes() -> None:
    data = replace(pictures(), splits={"test": pictures().test.take(4)})
    found = curve(trained(), data, quiet=True, repeats=1, methods=("mean", "gap_fc"), sites="backbone.5.0")
    assert [p.method for p in found.points] == ["mean"]
    assert (
        "GAP+FC is left out: its boxes are those of many positions of its maps, and GAP+FC leaves one." in found.notes
    )
    with pytest.raises(InputError, match="gives a Tensor; a detector gives a list"):
        curve(load_model("cifar/resnet20", classes=4, width=0.25), data, quiet=True)
    with pytest.raises(InputError, match="a detector gives boxes; give pictures with boxes, and one of map"):
        curve(trained(), data, quiet=True, score="agreement")
    with pytest.raises(InputError, match="its class 0 is 'cat', that of the pictures 'horizontal'"):
        curve(replace(trained(), classes=("cat", "dog")), data, quiet=True)
    with pytest.raises(InputError, match="counts classes from 1"):
        curve(Network(trained().module.given), data, quiet=True)
