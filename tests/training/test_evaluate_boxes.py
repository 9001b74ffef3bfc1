"""A detector's evaluation: right boxes are found, presence is the ranking of pictures, and wrong networks are refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from small_boxes import CLASSES, drawn
from whatwhere.data.boxes import Boxes, BoxSplit, Objects
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.network import Network, Preprocessing
from whatwhere.training.evaluate import evaluate
from whatwhere.training.evaluate_boxes import BoxEvaluation, detections_in

NAMES = tuple("abc")


class Says(nn.Module):
    """Gives for the picture of grey level i what is listed there."""

    def __init__(self, found: list[dict[str, torch.Tensor]]) -> None:
        super().__init__()
        self.found = found

    def forward(self, x: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        return [self.found[i] for i in (x[:, 0, 0, 0] * 255).round().int().tolist()]


def split(there: list[Objects]) -> BoxSplit:
    pictures = torch.arange(len(there), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 60, 60).clone()
    return BoxSplit("test", Memory(pictures), there, NAMES)


def said(found: list[dict[str, torch.Tensor]], there: list[Objects]) -> BoxEvaluation:
    net = Network(Says(found), Preprocessing(mean=(0.0,), std=(1.0,)), input_size=(3, 60, 60))
    return evaluate(net, Boxes("own", {"test": split(there)}), batch_size=4)


def exact(objects: Objects) -> dict[str, torch.Tensor]:
    return {"boxes": objects.boxes, "labels": objects.labels, "scores": torch.ones(len(objects))}


def test_a_detector_that_gives_what_is_there_has_every_measure_at_one() -> None:
    _, there = drawn(special=False)
    found = said([exact(o) for o in there], there)
    assert found.to_dict() == pytest.approx({"map": 1.0, "map50": 1.0, "map50_2007": 1.0, "presence": 1.0})
    assert "mAP 100.00 % (COCO" in str(found)
    assert repr(found) == f"<BoxEvaluation: {found}>"


def test_presence_is_the_average_precision_of_pictures_by_a_classs_highest_score() -> None:
    _, there = drawn(special=False)
    scores = torch.rand(len(there), CLASSES, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[0.0, 0, 1, 1]] * CLASSES)
    found = [{"boxes": boxes, "labels": torch.arange(CLASSES), "scores": s} for s in scores]
    present = torch.tensor([[bool((o.labels == c).any()) for c in range(CLASSES)] for o in there])
    by_hand = [envelope(present[:, c].tolist(), scores[:, c].tolist()) for c in range(CLASSES)]
    result = said(found, there)
    assert result.presence == pytest.approx(sum(by_hand) / CLASSES)
    moved = [{**f, "boxes": f["boxes"] + 7} for f in found]
    assert said(moved, there).presence == result.presence


def envelope(present: list[bool], scores: list[float]) -> float:
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    precisions = [sum(present[i] for i in order[: n + 1]) / (n + 1) for n in range(len(order))]
    return sum(max(precisions[n:]) for n, i in enumerate(order) if present[i]) / sum(present)


def test_pictures_of_several_sizes_go_one_by_one() -> None:
    class Two:
        def __len__(self) -> int:
            return 2

        def read(self, rows: list[int]) -> list[torch.Tensor]:
            return [torch.full((3, 60, 60 + row), row, dtype=torch.uint8) for row in rows]

        place: Callable[[int], str] = str

    there = [Objects.of([[0, 0, 9, 9]], [0]), Objects.of([[0, 0, 9, 61]][:0], [])]
    net = Network(Says([exact(o) for o in there]), Preprocessing(mean=(0.0,), std=(1.0,)), input_size=(3, 60, 60))
    assert evaluate(net, BoxSplit("test", Two(), there, NAMES)).map == 1


def test_what_is_no_detector_or_knows_other_classes_is_refused() -> None:
    with pytest.raises(InputError, match="gives a Tensor; a detector gives a list"):
        detections_in(torch.zeros(1), 3)
    with pytest.raises(InputError, match=r"detects class 3, but there are 3 \(0\.\.2\)"):
        detections_in([{**exact(Objects.of([[0, 0, 1, 1]], [3]))}], 3)
    with pytest.raises(InputError, match="its 2 pictures have no boxes"):
        said([], [Objects.of([], [])] * 2)
