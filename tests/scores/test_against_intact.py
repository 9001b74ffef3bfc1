"""Agreement, divergence and likeness against formulas in loops."""

import math

import numpy as np
import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.scores.against_intact import AGREEMENT, DENSE_AGREEMENT, FEATURE, KL, main_tensor
from whatwhere.scores.classes import ACCURACY

G = torch.Generator().manual_seed(0)
OURS, INTACT = torch.randn(6, 4, generator=G), torch.randn(6, 4, generator=G)
MAPS, INTACT_MAPS = torch.randn(3, 4, 2, 3, generator=G), torch.randn(3, 4, 2, 3, generator=G)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(softmax(p), softmax(q), strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def values(score, ours, intact) -> list[float]:
    return [float(e[0]) for e in score.evidence(ours, None, intact)]


def positions(maps: torch.Tensor) -> list[list[float]]:
    """The vectors of one picture's map, position by position."""
    return [maps[:, i, j].tolist() for i in range(maps.shape[1]) for j in range(maps.shape[2])]


def test_agreement_is_accuracy_when_the_intact_networks_classes_are_the_labels():
    labels = INTACT.argmax(1)
    assert values(AGREEMENT, OURS, INTACT) == [float(e[0]) for e in ACCURACY.evidence(OURS, labels, None)]
    assert values(AGREEMENT, INTACT, INTACT) == [1.0] * 6
    assert values(AGREEMENT, torch.full((1, 2), torch.nan), torch.zeros(1, 2)) == [0.0]


def test_agreement_of_pixels_is_the_share_of_positions():
    slow = [
        np.mean(
            [max(range(4), key=a.__getitem__) == max(range(4), key=b.__getitem__) for a, b in zip(*pair, strict=True)]
        )
        for pair in ((positions(x), positions(y)) for x, y in zip(MAPS, INTACT_MAPS, strict=True))
    ]
    assert values(DENSE_AGREEMENT, MAPS, INTACT_MAPS) == pytest.approx(slow, abs=1e-6)


def test_divergence_is_from_the_intact_scores_to_the_others():
    slow = [divergence(p, q) for p, q in zip(INTACT.tolist(), OURS.tolist(), strict=True)]
    assert values(KL, OURS, INTACT) == pytest.approx(slow, abs=1e-6)
    assert values(KL, INTACT, INTACT) == pytest.approx([0.0] * 6, abs=1e-12)
    dense = [
        np.mean([divergence(p, q) for p, q in zip(positions(y), positions(x), strict=True)])
        for x, y in zip(MAPS, INTACT_MAPS, strict=True)
    ]
    assert values(KL, {"out": MAPS}, {"out": INTACT_MAPS}) == pytest.approx(dense, abs=1e-6)
    with pytest.raises(InputError, match=r"'kl'.*NaN.*give 'agreement'"):
        values(KL, torch.full((1, 2), torch.nan), torch.zeros(1, 2))


def test_likeness_is_the_cosine_of_vectors_and_the_mean_of_positions():
    assert values(FEATURE, OURS, INTACT) == pytest.approx(
        [cosine(a, b) for a, b in zip(OURS.tolist(), INTACT.tolist(), strict=True)], abs=1e-6
    )
    dense = [
        np.mean([cosine(a, b) for a, b in zip(positions(x), positions(y), strict=True)])
        for x, y in zip(MAPS, INTACT_MAPS, strict=True)
    ]
    assert values(FEATURE, MAPS, INTACT_MAPS) == pytest.approx(dense, abs=1e-6)
    tokens, intact = (m.flatten(2).transpose(1, 2) for m in (MAPS, INTACT_MAPS))
    assert values(FEATURE, tokens, intact) == pytest.approx(dense, abs=1e-6)


def test_a_map_of_one_position_stands_for_all():
    one = MAPS.mean((2, 3), keepdim=True)
    assert values(FEATURE, one, INTACT_MAPS) == values(FEATURE, one.expand_as(MAPS), INTACT_MAPS)
    agreed = values(DENSE_AGREEMENT, one, INTACT_MAPS)
    assert agreed == pytest.approx(values(DENSE_AGREEMENT, one.expand_as(MAPS), INTACT_MAPS))


def test_the_main_tensor_of_any_output():
    assert main_tensor((OURS, INTACT)) is OURS
    assert main_tensor({"aux": INTACT, "logits": OURS}) is OURS
    with pytest.raises(InputError, match="the network returns a value of type dict"):
        main_tensor({"a": "b"})


def test_outputs_without_such_a_score_are_refused():
    with pytest.raises(
        InputError, match=r"'agreement': the network gives values of shape \(3, 5, 4\).*score='feature'"
    ):
        values(AGREEMENT, torch.zeros(3, 5, 4), torch.zeros(3, 5, 4))
    with pytest.raises(InputError, match=r"'feature': the features have shape \(3, 4\), the intact network's \(3, 5\)"):
        values(FEATURE, torch.zeros(3, 4), torch.zeros(3, 5))


def test_an_axis_is_named_without_what_only_a_sentence_needs() -> None:
    assert KL.axis == "divergence from the intact network's class probabilities, in nats"
    assert AGREEMENT.axis == "agreement with the intact network (%)"
