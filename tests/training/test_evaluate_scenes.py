import math
import re

import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import Tensor, nn

from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.network import Network, Preprocessing
from whatwhere.training.evaluate_scenes import (
    SceneEvaluation,
    class_iou,
    confusion,
    evaluate_scenes,
    mean_iou,
    pixel_accuracy,
)

CLASSES = ("a", "b", "c", "never")


class Says(nn.Module):
    """Scores that are highest for the class that the red channel names."""

    def __init__(self, scores: int = 4) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        assert not self.training
        red = (255 * x[:, 0]).round().long()
        return {"out": nn.functional.one_hot(red, self.scores).permute(0, 3, 1, 2).float()}


def said_and_true(seed: int = 0) -> tuple[Tensor, Tensor]:
    """(5, 6, 7) each: said classes 0..2, true classes 0..2 and unlabelled."""
    g = torch.Generator().manual_seed(seed)
    true = torch.randint(0, 3, (5, 6, 7), generator=g)
    said = torch.where(torch.rand(5, 6, 7, generator=g) < 0.6, true, torch.randint(0, 3, (5, 6, 7), generator=g))
    true[torch.rand(5, 6, 7, generator=g) < 0.2] = IGNORE
    return said, true


def scenes(said: Tensor, true: Tensor, groups: Tensor | None = None) -> SceneSplit:
    pictures = said.to(torch.uint8)[:, None].expand(-1, 3, -1, -1)
    return SceneSplit("test", Memory(pictures), {"class": Memory(true.to(torch.uint8))}, CLASSES, groups)


def network(scores: int = 4) -> Network:
    return Network(Says(scores), Preprocessing(mean=(0.0,), std=(1.0,)))


def counted(said: Tensor, true: Tensor) -> list[list[int]]:
    """Pixel by pixel."""
    table = [[0] * 4 for _ in range(4)]
    for s, t in zip(said.flatten().tolist(), true.flatten().tolist(), strict=True):
        if t != IGNORE:
            table[t][s] += 1
    return table


def test_every_pixel_is_counted_once() -> None:
    said, true = said_and_true()
    found = evaluate_scenes(network(), scenes(said, true))
    assert found.confusions.tolist() == [counted(s, t) for s, t in zip(said, true, strict=True)]
    assert int(found.confusions.sum()) == int((true != IGNORE).sum())
    labelled = true != IGNORE
    assert (
        found.confusions.sum(0).tolist() == confusion_matrix(true[labelled], said[labelled], labels=range(4)).tolist()
    )


def test_the_measures_follow_from_sets_of_pixels() -> None:
    said, true = said_and_true()
    found = evaluate_scenes(network(), scenes(said, true))
    ious = []
    for k in range(3):
        is_, says = ({i for i, v in enumerate(x[true != IGNORE].tolist()) if v == k} for x in (true, said))
        ious.append(len(is_ & says) / len(is_ | says))
    assert found.iou[:3].tolist() == pytest.approx(ious)
    assert math.isnan(found.iou[3])
    assert found.miou == pytest.approx(sum(ious) / 3)
    y, p = true[true != IGNORE].numpy(), said[true != IGNORE].numpy()
    assert found.iou[:3].tolist() == pytest.approx(jaccard_score(y, p, average=None).tolist())
    assert found.accuracy == (y == p).mean()
    missing = " of 3 of 4 classes (not in the labels: never)"
    ends = {k: f"[{100 * i.low:.2f}, {100 * i.high:.2f}]" for k, i in found.intervals.items()}
    assert str(found) == (
        f"mIoU {100 * found.miou:.2f} % {ends['miou']}{missing}, "
        f"pixel accuracy {100 * found.accuracy:.2f} % {ends['accuracy']}, 5 pictures"
    )


def test_intervals_are_over_groups_and_by_leaving_each_out() -> None:
    said, true = said_and_true()
    found = evaluate_scenes(network(), scenes(said, true, torch.tensor([0, 0, 1, 2, 2])))
    assert str(found).endswith("5 pictures in 3 groups")
    assert repr(found) == f"<SceneEvaluation: {found}>"
    parts = [[0, 1], [2], [3, 4]]
    for name, measure in (("miou", mean_iou), ("accuracy", pixel_accuracy)):
        whole = measure(found.confusions.sum(0))
        without = [measure(found.confusions[[i for p in parts if p != left for i in p]].sum(0)) for left in parts]
        pseudo = [3 * whole - 2 * w for w in without]
        half = 4.302652729911275 * torch.tensor(pseudo).double().std().item() / math.sqrt(3)  # Student's t, 2 degrees
        bias = 2 * (sum(without) / 3 - whole)
        expected = max(0.0, whole - max(0.0, bias) - half), min(1.0, whole - min(0.0, bias) + half)
        assert (found.intervals[name].low, found.intervals[name].high) == pytest.approx(expected)
    assert evaluate_scenes(network(), scenes(said, true, torch.zeros(5, dtype=torch.int64))).intervals == {}


def test_a_named_score_beyond_the_classes_is_a_wrong_answer() -> None:
    """The published count of a network that may say "unlabelled": such a pixel is missed, and no class claims it."""
    said, true = said_and_true()
    said[torch.rand(said.shape, generator=torch.Generator().manual_seed(1)) < 0.2] = 4
    void = Network(Says(5), Preprocessing(mean=(0.0,), std=(1.0,)), classes=(*CLASSES, "unlabelled"))
    found = evaluate_scenes(void, scenes(said, true))
    pixels = [(t, s) for t, s in zip(true.flatten().tolist(), said.flatten().tolist(), strict=True) if t != IGNORE]
    for k in range(3):
        both = sum((t, s) == (k, k) for t, s in pixels)
        assert float(found.iou[k]) == both / sum(k in (t, s) for t, s in pixels)
    assert found.miou == pytest.approx(float(found.iou[:3].mean()))
    assert found.accuracy == sum(t == s for t, s in pixels) / len(pixels)
    assert found.intervals["miou"].value == pytest.approx(found.miou)
    share = 100 * sum(s == 4 for _, s in pixels) / len(pixels)
    assert f"{share:.2f} % of the labelled pixels said to be 'unlabelled', which is wrong" in str(found)
    for classes in ((), ("x", *CLASSES[1:], "unlabelled")):  # no names, or others: no one says that it is meant
        unnamed = Network(Says(5), Preprocessing(mean=(0.0,), std=(1.0,)), classes=classes)
        with pytest.raises(
            InputError, match=r"says class 4, but there are 4 .*classes=\(the data's names, 'unlabelled"
        ):
            evaluate_scenes(unnamed, scenes(said, true))


def test_a_class_that_is_said_but_never_there_counts_in_no_mean() -> None:
    """Its intersection over union is 0, as it says; a mean over it would depend on one wrong pixel."""
    table = torch.tensor([[3, 0, 1], [0, 4, 0], [0, 0, 0]])
    assert class_iou(table).tolist() == [0.75, 1.0, 0.0]
    assert mean_iou(table) == pytest.approx(0.875)
    assert pixel_accuracy(table) == 7 / 8
    assert math.isnan(mean_iou(torch.zeros(3, 3, dtype=torch.int64)))


def test_many_confusions_at_once() -> None:
    tables = torch.randint(0, 9, (4, 2, 3, 3), generator=torch.Generator().manual_seed(0))
    found = class_iou(tables)
    assert found.shape == (4, 2, 3)
    assert torch.equal(found[1, 1], class_iou(tables[1, 1]))


def test_small_scores_are_compared_at_the_labels_size() -> None:
    """A network of stride 2: each of its pixels stands for four."""

    class Halved(Says):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return super().forward(x[..., ::2, ::2])

    said = torch.tensor([[0, 2], [1, 1]]).repeat_interleave(2, 0).repeat_interleave(2, 1)[None]
    found = evaluate_scenes(Network(Halved(), Preprocessing(mean=(0.0,), std=(1.0,))), scenes(said, said))
    assert found.confusions.sum() == 16
    assert found.accuracy == 1.0


def test_the_network_is_left_in_training_and_gets_no_gradient() -> None:
    said, true = said_and_true()
    net = network()
    net.module.train()
    evaluate_scenes(net, scenes(said, true))
    assert net.module.training
    assert torch.is_grad_enabled()


def test_classes_that_do_not_fit_are_refused() -> None:
    said, true = said_and_true()
    with pytest.raises(InputError, match="label 2, but the network gives 2 scores a pixel"):
        evaluate_scenes(network(2), scenes(said.clamp(max=1), true))
    said[0][true[0] == 0] = 5
    with pytest.raises(
        InputError, match=r"the network says class 5, but there are 4 \(0\.\.3\); load it with classes="
    ):
        evaluate_scenes(network(6), scenes(said, true))
    assert evaluate_scenes(network(6), scenes(said[1:], true[1:])).miou > 0  # nothing wrong is said there


def test_unlabelled_pixels_may_be_called_anything() -> None:
    table = confusion(torch.tensor([[9, 1]]), torch.tensor([[IGNORE, 0]]), 2)
    assert table.tolist() == [[0, 1], [0, 0]]
    empty = SceneEvaluation(torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([0]), ("a", "b"))
    assert math.isnan(empty.accuracy)


def test_classes_that_never_occur_are_said() -> None:
    said, true = said_and_true()
    with pytest.warns(
        UserWarning, match=r"split 'test': 'never' never occurs in its 5 label maps; \d+\.\d % of the pix"
    ):
        found = evaluate_scenes(network(), scenes(said, true))
    assert found.absent == ("never",)
    assert found.to_dict()["absent"] == ["never"]
    true[0, 0, 0] = 3
    found = evaluate_scenes(network(), scenes(said, true))
    assert found.absent == ()
    assert "absent" not in found.to_dict()
    assert re.match(rf"mIoU {100 * found.miou:.2f} % \[[\d.]+, [\d.]+\], pixel", str(found))


def test_scenes_without_a_label_or_with_one_class_are_refused() -> None:
    said, true = said_and_true()
    with pytest.raises(InputError, match="split 'test': no pixel of its label maps is labelled"):
        evaluate_scenes(network(), scenes(said, torch.full_like(true, IGNORE)))
    one = SceneSplit("test", Memory(torch.zeros(1, 3, 2, 2)), {"class": Memory(torch.zeros(1, 2, 2))}, ("sky",))
    with pytest.raises(InputError, match="data has one class, 'sky'"):
        evaluate_scenes(network(), one)
