"""The small detector: what its head sees, its seed, that it learns, and the known answer."""

import copy
from dataclasses import replace

import pytest
import torch

from small_detector import WIDTH, pictures, random_pictures, trained
from whatwhere.data.boxes import Objects
from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.models.load import load_model
from whatwhere.models.saved import save
from whatwhere.models.small_ssd import small_ssd
from whatwhere.need.shuffling import shuffle
from whatwhere.training.evaluate import evaluate
from whatwhere.training.evaluate_boxes import VOC, BoxEvaluation

LAST = "backbone.5.2"  # the ReLU that gives the last map


def test_the_head_looks_at_one_position() -> None:
    head = small_ssd("small", width=0.25).module.get_submodule("head")
    x = torch.rand(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, :, 2, 3] += 1
    before, after = (head([m])["cls_logits"].view(8, 8, -1) for m in (x, changed))
    differs = (before != after).any(-1)
    assert differs.nonzero().tolist() == [[2, 3]]


def test_a_seed_gives_the_same_weights_and_other_names_are_refused() -> None:
    one, again, other = (small_ssd("small", width=0.25, seed=s) for s in (1, 1, 2))
    assert fingerprint(one.module) == fingerprint(again.module) != fingerprint(other.module)
    with pytest.raises(InputError, match="ssd/small"):
        small_ssd("smal")
    with pytest.raises(InputError, match="no weights to download"):
        small_ssd("small", pretrained=True)


def test_it_comes_back_from_a_folder_with_the_same_boxes(tmp_path) -> None:
    net, x = small_ssd_loaded(), random_pictures(2, 64, 64)
    save(net, tmp_path / "net")
    again = load_model(str(tmp_path / "net"))
    for a, b in zip(net.module(x), again.module(x), strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def small_ssd_loaded():
    return load_model("ssd/small", width=0.25)


@pytest.fixture(scope="module")
def intact() -> BoxEvaluation:
    return evaluate(trained(), pictures().test)


def test_it_learns_in_seconds(intact: BoxEvaluation) -> None:
    control = evaluate(load_model("ssd/small", width=WIDTH, seed=1), pictures().test)
    assert intact.map50 > 0.7
    assert intact.presence > 0.85
    assert control.map50 < 0.05


def test_known_answer_boxes_vanish_and_classes_stay_when_the_last_map_is_shuffled(intact: BoxEvaluation) -> None:
    """One permutation of the positions for all channels: the head, which looks at one position at a time, gives the same
    scores at other positions. So presence is the same number, and mAP is that of boxes moved to random places."""
    with shuffle(trained(), LAST, mode="shared"):
        shuffled = evaluate(trained(), pictures().test)
    assert shuffled.presence == pytest.approx(intact.presence, abs=1e-6)
    at_random = moved(intact, seed=0)
    assert at_random.presence == pytest.approx(intact.presence, abs=1e-9)
    assert shuffled.map50 < 0.05
    assert at_random.map50 < 0.05
    assert intact.map50 - shuffled.map50 > 0.6


def moved(found: BoxEvaluation, seed: int) -> BoxEvaluation:
    """The control: each detected box at a random place of its picture, with its class, score and size."""
    generator = torch.Generator().manual_seed(seed)
    result = []
    for each in found.found:
        boxes = each["boxes"]
        sides = boxes[:, 2:] - boxes[:, :2]
        corners = torch.rand(len(boxes), 2, generator=generator) * (64 - sides)
        result.append({**each, "boxes": torch.cat([corners, corners + sides], 1)})
    return replace(found, found=tuple(result))


def test_the_control_is_one_the_same_boxes_in_their_places_are_right(intact: BoxEvaluation) -> None:
    """What `moved` changes is the place alone: detections that are the objects themselves fall from one to nearly zero."""
    exact = tuple({"boxes": o.boxes, "labels": o.labels, "scores": torch.ones(len(o))} for o in intact.objects)
    right = replace(intact, found=copy.copy(exact))
    assert right.measured(VOC) == pytest.approx(1)
    assert moved(right, seed=1).measured(VOC) < 0.1
    assert all(isinstance(o, Objects) for o in intact.objects)
