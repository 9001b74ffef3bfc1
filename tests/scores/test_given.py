"""Functions of the user's and torchmetrics' metrics, over pictures and over the set."""

import math
import pickle
import sys

import numpy as np
import pytest
import torch
from torchmetrics import MeanAbsoluteError, MeanMetric
from torchmetrics.classification import MulticlassAUROC, MulticlassCalibrationError, MulticlassF1Score

from whatwhere.errors import InputError
from whatwhere.scores.given import Here, function_score, is_metric, metric_score, object_at

G = torch.Generator().manual_seed(0)
OUTPUTS, LABELS = torch.randn(12, 4, generator=G), torch.arange(12) % 4
TIMES = np.array([[1] * 12, [2, 0, 1] * 4, [0, 3, 0, 1] * 3])


def rows(times: np.ndarray) -> list[int]:
    return np.repeat(np.arange(12), times).tolist()


def margin(outputs, targets):
    """How far the label's score is below the highest."""
    return outputs.max(1).values - outputs.gather(1, targets[:, None])[:, 0]


margin.higher_is_better = False  # type: ignore[attr-defined]
margin.label = "margin"  # type: ignore[attr-defined]
margin.low = 0.0  # type: ignore[attr-defined]


def spread(outputs, targets):
    return outputs.std() + targets.float().mean()


def moved(outputs, targets, intact):
    return (outputs - intact).abs().mean(1)


def test_a_function_of_each_picture():
    score = function_score(margin, "mine:margin", OUTPUTS[:2], LABELS[:2])
    assert (score.per_picture, score.higher_is_better, score.label, score.low, score.of_intact) == (
        True,
        False,
        "margin",
        0.0,
        False,
    )
    evidence = score.evidence(OUTPUTS, LABELS, None)
    assert score.value(evidence) == pytest.approx(float(margin(OUTPUTS, LABELS).mean()))
    assert pickle.loads(pickle.dumps(score)).value(evidence) == score.value(evidence)


def test_a_function_that_gives_one_number_is_of_the_set():
    score = function_score(spread, "spread", OUTPUTS[:2], LABELS[:2])
    assert not score.per_picture
    evidence = score.evidence({"out": OUTPUTS}, LABELS, None)
    assert score.value(evidence) == pytest.approx(float(spread(OUTPUTS, LABELS)))
    slow = [float(spread(OUTPUTS[rows(t)], LABELS[rows(t)])) for t in TIMES]
    assert score.resampled(evidence, TIMES) == pytest.approx(slow)


def test_a_function_of_three_compares_with_the_intact_network():
    score = function_score(moved, "moved", OUTPUTS[:2], LABELS[:2])
    assert score.of_intact
    assert score.value(score.evidence(OUTPUTS, LABELS, OUTPUTS + 1)) == pytest.approx(1.0, abs=1e-6)


def test_a_function_that_was_given_as_an_object_stays_in_its_process():
    here = function_score(Here(margin), "margin", OUTPUTS[:2], LABELS[:2])
    assert (here.label, here.higher_is_better) == ("margin", False)
    assert here.identity == function_score(margin, "margin", OUTPUTS[:2], LABELS[:2]).identity
    with pytest.raises(InputError, match=r"score was given as an object.*give score as 'package.module:name'"):
        pickle.dumps(here)


def test_another_function_of_the_same_name_is_another_score():
    one = function_score(lambda outputs, targets: outputs.sum(1), "f", OUTPUTS, LABELS)
    other = function_score(lambda outputs, targets: outputs.mean(1), "f", OUTPUTS, LABELS)
    assert one.identity != other.identity


def test_functions_that_are_no_scores_are_refused():
    with pytest.raises(InputError, match="'f' takes 1 arguments; give a function of"):
        function_score(lambda outputs: outputs, "f", OUTPUTS, LABELS)
    with pytest.raises(InputError, match=r"'f' returns values of shape \(12, 4\)"):
        function_score(lambda outputs, targets: outputs, "f", OUTPUTS, LABELS)
    with pytest.raises(InputError, match="'f': the call fails with ZeroDivisionError"):
        function_score(lambda outputs, targets: 1 / 0, "f", OUTPUTS, LABELS)


@pytest.mark.parametrize(
    "metric",
    [MulticlassF1Score(4), MulticlassAUROC(4), MulticlassAUROC(4, thresholds=9), MulticlassCalibrationError(4)],
)
def test_a_metric_has_the_value_of_all_pictures_at_once(metric):
    score = metric_score(metric, "m", OUTPUTS[:2], LABELS[:2])
    evidence = score.evidence(OUTPUTS, LABELS, None)
    assert score.value(evidence) == pytest.approx(float(metric(OUTPUTS, LABELS)), abs=1e-6)
    slow = [float(metric(OUTPUTS[rows(t)], LABELS[rows(t)])) for t in TIMES]
    assert score.resampled(evidence, TIMES) == pytest.approx(slow, abs=1e-6)
    assert score.higher_is_better == metric.higher_is_better
    assert (score.low, score.high) == (0.0, 1.0)


def test_metrics_of_other_settings_are_other_scores():
    names = {metric_score(MulticlassF1Score(4, average=a), "f1", OUTPUTS, LABELS).identity for a in ("micro", "macro")}
    assert len(names) == 2


def test_metrics_that_cannot_be_scores_are_refused():
    with pytest.raises(InputError, match="'mean': this metric does not say whether higher is better"):
        metric_score(MeanMetric(), "mean", OUTPUTS, LABELS)
    with pytest.raises(InputError, match="'mae': its update fails with"):
        metric_score(MeanAbsoluteError(), "mae", OUTPUTS, LABELS)
    strange = MulticlassF1Score(4)
    strange.add_state("most", torch.tensor(0.0), dist_reduce_fx="max")
    with pytest.raises(InputError, match="'f1': its state most is neither a sum over pictures nor a list"):
        metric_score(strange, "f1", OUTPUTS, LABELS)


def test_a_name_is_found_where_it_is_and_a_class_is_made(tmp_path, monkeypatch):
    (tmp_path / "myscores.py").write_text(
        "def f(outputs, targets):\n    return outputs.sum(1)\n\n\nclass G:\n    def __init__(self, x):\n        pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert object_at("myscores:f", 3)(OUTPUTS, LABELS).shape == (12,)
    made = object_at("torchmetrics.classification:MulticlassF1Score", 7)
    assert is_metric(made)
    assert is_metric(type(made))
    assert not is_metric(math)
    assert made.num_classes == 7
    with pytest.raises(InputError, match="score='myscores:g' matches nothing"):
        object_at("myscores:g", 3)
    with pytest.raises(InputError, match="score='myscores:G': making it fails with TypeError"):
        object_at("myscores:G", 3)
