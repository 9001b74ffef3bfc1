import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from small_detector import pictures as drawn
from whatwhere.data import Split, ahead
from whatwhere.data.boxes import BoxSplit, Objects
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.data.views import SEEDS, Views, viewed
from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.label_maps import IGNORE
from whatwhere.models.load import load_model
from whatwhere.network import Preprocessing
from whatwhere.training.augment import crop_and_scale
from whatwhere.training.feed import CPU, Feed
from whatwhere.training.fit import fit
from whatwhere.training.objectives import Classify, Detect, Labelled, Loss, Segment, at_size, objective_of, score_maps
from whatwhere.training.recipes import BoxRecipe, Recipe, SceneRecipe, recipes

RECIPE = SceneRecipe(epochs=1, batch_size=2, crop=(4, 6), auxiliary=0.0)
WEIGHTS = (0.5, 2.0, 1.0)


def scores_and_labels(seed: int = 0) -> tuple[Tensor, Tensor]:
    """(2, 3, 4, 5) and (2, 4, 5) with every seventh pixel or so unlabelled."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (2, 4, 5), generator=g)
    labels[torch.rand(2, 4, 5, generator=g) < 0.15] = IGNORE
    return torch.randn(2, 3, 4, 5, generator=g).requires_grad_(), labels


def lost(recipe: SceneRecipe, output: Any, maps: Tensor) -> Loss:
    """The loss of scores, of class maps as `Segment.batches` gives them."""
    return Segment(recipe).loss(output, Labelled.of(maps, recipe.class_weights))


def pixel_by_pixel(scores: Tensor, labels: Tensor, weights: tuple[float, ...], smoothing: float) -> float:
    total = weight = 0.0
    for n in range(2):
        for r in range(4):
            for c in range(5):
                label = int(labels[n, r, c])
                if label == IGNORE:
                    continue
                s = scores[n, :, r, c].tolist()
                norm = math.log(sum(math.exp(v) for v in s))
                total += weights[label] * (1 - smoothing) * (norm - s[label])
                total += smoothing / 3 * sum(w * (norm - v) for w, v in zip(weights, s, strict=True))
                weight += weights[label]
    return total / weight


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_the_loss_is_the_weighted_mean_over_labelled_pixels(weights: tuple[float, ...], smoothing: float) -> None:
    scores, labels = scores_and_labels()
    loss = lost(replace(RECIPE, class_weights=weights, label_smoothing=smoothing), scores, labels)
    assert float(loss.value.detach()) == pytest.approx(pixel_by_pixel(scores, labels, weights or (1, 1, 1), smoothing))
    given = torch.tensor(weights) if weights else None
    torchs = functional.cross_entropy(scores, labels, given, ignore_index=IGNORE, label_smoothing=smoothing)
    assert torch.allclose(loss.value, torchs)
    labelled = labels != IGNORE
    assert loss.counted == int(labelled.sum()) < labels.numel()
    assert loss.right == int(((scores.argmax(1) == labels) & labelled).sum())


def test_unlabelled_pixels_give_no_gradient() -> None:
    scores, labels = scores_and_labels()
    lost(replace(RECIPE, class_weights=WEIGHTS, label_smoothing=0.1), scores, labels).value.backward()
    assert scores.grad is not None
    touched = scores.grad.abs().sum(1) > 0
    assert torch.equal(touched, labels != IGNORE)


@pytest.mark.parametrize("weights", [(), WEIGHTS])
def test_a_crop_without_a_label_gives_nothing(weights: tuple[float, ...]) -> None:
    scores, labels = scores_and_labels()
    recipe = replace(RECIPE, class_weights=weights, auxiliary=0.4)
    loss = lost(recipe, (scores, scores), torch.full_like(labels, IGNORE))
    loss.value.backward()
    assert (float(loss.value.detach()), loss.right, loss.counted) == (0.0, 0, 0)
    assert scores.grad is not None
    assert not scores.grad.any()


def test_classes_of_no_weight_give_nothing() -> None:
    scores, _ = scores_and_labels()
    loss = lost(replace(RECIPE, class_weights=(0.0, 1.0, 1.0)), scores, torch.zeros(2, 4, 5, dtype=torch.int64))
    assert float(loss.value.detach()) == 0.0


def test_auxiliary_scores_add_their_share() -> None:
    (scores, labels), (auxiliary, _) = scores_and_labels(0), scores_and_labels(1)
    scores, auxiliary = scores.detach(), auxiliary.detach()
    alone, other = (float(lost(RECIPE, s, labels).value) for s in (scores, auxiliary))
    both = replace(RECIPE, auxiliary=0.3)
    for output in ((scores, auxiliary), [scores, auxiliary], {"out": scores, "aux": auxiliary}):
        loss = lost(both, output, labels)
        assert float(loss.value) == pytest.approx(alone + 0.3 * other)
        assert loss.right == lost(RECIPE, scores, labels).right
        assert float(lost(RECIPE, output, labels).value) == pytest.approx(alone)
    assert float(lost(both, {"out": scores}, labels).value) == pytest.approx(alone)


def test_small_scores_are_enlarged_to_the_labels() -> None:
    """Bilinear between the centres of the cells, in one dimension written out."""
    scores = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    found = at_size(scores, torch.zeros(1, 1, 4))
    assert found.flatten().tolist() == [1.0, 1.5, 2.5, 3.0]
    assert at_size(scores, torch.zeros(1, 1, 2)) is scores
    large, labels = scores_and_labels()
    small = torch.nn.functional.avg_pool2d(large, (2, 1))
    loss = lost(RECIPE, small, labels)
    enlarged = functional.interpolate(small, (4, 5), mode="bilinear")
    assert torch.allclose(loss.value, functional.cross_entropy(enlarged, labels, ignore_index=IGNORE))
    assert loss.right == int((enlarged.argmax(1) == labels).sum())


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        (torch.zeros(2, 3), r"a tensor \(2, 3\)"),
        ({"logits": 1, "x": torch.zeros(2)}, r"a mapping with logits: int, x: a tensor \(2,\)"),
        ("text", "str"),
        ((1, None, "3"), "a tuple of int, NoneType, str"),
    ],
)
def test_what_is_no_score_map_is_refused(output: Any, seen: str) -> None:
    with pytest.raises(
        InputError, match=rf"the network gives {seen}; a segmentation network gives scores \(N, classes"
    ):
        score_maps(output)


def test_the_scores_are_found_in_any_usual_form() -> None:
    scores, other, odd = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 2, 2), torch.randn(2, 7, 4, 5)
    forms: list[tuple[Any, Any]] = [
        ({"aux": other, "out": scores}, other),
        ({"loss": torch.zeros(()), "logits": scores, "features": odd}, None),
        ({"masks": scores, "features": odd}, None),
        ([scores], None),
        ((scores, odd), None),  # not scores of the same classes
        ((scores, other), other),
        ((None, scores, other), None),
        (SimpleNamespace(logits=scores), None),
    ]
    for output, auxiliary in forms:
        main, second = score_maps(output)
        assert torch.equal(main, scores)
        assert (second is None) == (auxiliary is None)
        assert second is None or torch.equal(second, auxiliary)


def test_labels_without_a_score_are_refused_in_every_batch() -> None:
    scores, labels = scores_and_labels()
    labels[0, 0, 0] = 3
    with pytest.raises(InputError, match=r"label 3, but the network gives 3 scores a pixel; load it with classes="):
        lost(RECIPE, scores, labels)


def test_weights_must_be_as_many_as_scores() -> None:
    scores, _ = scores_and_labels()
    with pytest.raises(InputError, match="2 class_weights, but the network gives 3 scores"):
        Segment(replace(RECIPE, class_weights=(1.0, 1.0))).check((scores, scores), None)
    Segment(replace(RECIPE, class_weights=WEIGHTS)).check(scores, None)
    Segment(RECIPE).check(scores, None)


def test_batches_are_crops_of_the_ordered_scenes() -> None:
    split = drawn_streets(train=5, validation=1, test=1, size=(32, 40)).train
    order, draws = torch.tensor([3, 0, 4, 1]), torch.Generator().manual_seed(2)
    batches = list(Segment(RECIPE).batches(split, order, torch.Generator().manual_seed(2), Feed(Preprocessing())))
    assert [len(x) for x, _ in batches] == [2, 2]
    pictures, maps = torch.cat([x for x, _ in batches]), torch.cat([labels.maps for _, labels in batches])
    for row, picture, labels in zip(order.tolist(), pictures, maps, strict=True):
        expected = crop_and_scale(split[row][0], split[row][1]["class"], RECIPE, draws)
        assert torch.equal(picture, expected[0])
        assert torch.equal(labels, expected[1])


def test_without_a_crop_inputs_stay_as_they_are() -> None:
    features = torch.arange(24.0).view(3, 2, 2, 2)

    class Held:
        def batches(self, size: int, *, order: Tensor) -> Any:
            return ((features[rows], torch.zeros(len(rows), 4, 4)) for rows in order.split(size))

    draws = torch.Generator().manual_seed(0)
    before = draws.get_state()
    found = list(
        Segment(replace(RECIPE, crop=None)).batches(Held(), torch.tensor([2, 0]), draws, Feed(Preprocessing()))
    )
    assert torch.equal(found[0][0], features[[2, 0]])
    assert torch.equal(draws.get_state(), before)


def test_the_recipe_says_what_is_learned() -> None:
    assert isinstance(objective_of(RECIPE), Segment)
    assert isinstance(objective_of(Recipe(epochs=1)), Classify)


def test_one_class_for_each_picture() -> None:
    scores, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
    task = Classify(Recipe(epochs=1, label_smoothing=0.2))
    loss = task.loss(scores, labels)
    assert torch.allclose(loss.value, functional.cross_entropy(scores, labels, label_smoothing=0.2))
    assert (loss.right, loss.counted) == (int((scores.argmax(1) == labels).sum()), 4)
    split = Split("train", Memory(torch.zeros(4, 3, 2, 2)), torch.tensor([0, 0, 0, 3]), list("abcd"))
    with pytest.raises(InputError, match="label 3, but the network gives 3 scores"):
        task.check(scores[:2], split)


def test_training_on_a_single_class_is_refused() -> None:
    split = Split("train", Memory(torch.zeros(4, 3, 2, 2)), torch.ones(4), ("a", "b", "c"))
    with pytest.raises(InputError, match="the training split has one class, 'b', which any network gets right"):
        Classify(Recipe(epochs=1)).check(torch.zeros(4, 3), split)


def test_classes_that_no_training_map_holds_are_said() -> None:
    def held(*values: int) -> SceneSplit:
        maps = torch.tensor(values, dtype=torch.uint8)[:, None, None].expand(-1, 2, 2)
        return SceneSplit("train", Memory(torch.zeros(len(values), 3, 2, 2)), {"class": Memory(maps)}, ("a", "b", "c"))

    scores = scores_and_labels()[0]
    with pytest.warns(
        UserWarning, match="split 'train': 'c' never occurs in its 2 label maps. Nothing is learned of it"
    ):
        Segment(RECIPE).check(scores, held(0, 1))
    with pytest.raises(InputError, match="the training split has one class, 'b'"):
        Segment(RECIPE).check(scores, held(1, 255))
    with pytest.raises(InputError, match="split 'train': no pixel of its label maps is labelled"):
        Segment(RECIPE).check(scores, held(255, 255))


FEW = BoxRecipe(epochs=1, batch_size=4)


def test_half_of_the_pictures_are_mirrored_and_their_boxes_with_them() -> None:
    """Each picture is white in its box alone, so that the box tells where white must be."""
    canvas = torch.zeros(40, 3, 6, 8, dtype=torch.uint8)
    canvas[:, :, 1:3, 0:2] = 255
    split = BoxSplit("train", Memory(canvas), [Objects.of([[0, 1, 2, 3]], [0])] * 40, ("a",))
    draws, mirrored = torch.Generator().manual_seed(0), 0
    for images, objects in Detect(FEW).batches(split, torch.arange(40), draws, Feed(Preprocessing())):
        for image, each in zip(images, objects, strict=True):
            left, top, right, bottom = each.boxes[0].int().tolist()
            assert int(image[:, top:bottom, left:right].min()) == 255
            assert int((image == 255).sum()) == 3 * 4
            mirrored += left > 0
    assert 10 < mirrored < 30
    plain = Detect(replace(FEW, flip=False)).batches(split, torch.arange(40), draws, Feed(Preprocessing()))
    assert all(int(o.boxes[0, 0]) == 0 for _, objects in plain for o in objects)


def test_the_same_seed_gives_the_same_weights_and_no_accuracy_is_told() -> None:
    train, nets = drawn().train.take(8), [load_model("ssd/small", width=0.25) for _ in range(2)]
    records = [fit(net, train, FEW, device="cpu").epochs[0] for net in nets]
    assert records[0]["loss"] == records[1]["loss"]
    assert "train_accuracy" not in records[0]
    assert fingerprint(nets[0].module) == fingerprint(nets[1].module)


def test_what_cannot_be_trained_is_refused(pictures) -> None:
    with pytest.raises(InputError, match="train is a Split; a detector learns from pictures with boxes"):
        fit(load_model("ssd/small", width=0.25), pictures(), FEW, device="cpu")
    blank = BoxSplit("train", Memory(torch.zeros(8, 3, 32, 32, dtype=torch.uint8)), [Objects.of([], [])] * 8, ("a",))
    with pytest.raises(InputError, match="no boxes to learn from"):
        fit(load_model("ssd/small", width=0.25), blank, FEW, device="cpu")
    with pytest.raises(InputError, match="gives a Tensor in training, and boxes are learned by a detector"):
        fit(load_model("cifar/resnet20", classes=2, width=0.25), blank, FEW, device="cpu")
    with pytest.raises(InputError, match=r"recipes\['boxes'\], or --recipe boxes"):
        fit(load_model("ssd/small", width=0.25), blank, Recipe(epochs=1, batch_size=4), device="cpu")
    with pytest.raises(InputError, match="crop_padding=4"):
        replace(recipes["boxes"], crop_padding=4)


# Views of pictures

WINDOWS = Recipe(epochs=2, batch_size=4, crop_padding=0, crop_area=(0.2, 1.0))


def test_pictures_are_seen_through_views_of_a_seed_that_each_epoch_draws(pictures) -> None:
    split, order = pictures(), torch.randperm(20)
    draws, same = (torch.Generator().manual_seed(3) for _ in range(2))
    epochs = [list(Classify(WINDOWS).batches(split, order, draws, Feed(Preprocessing()))) for _ in range(2)]
    views = Views((0.2, 1.0), (3 / 4, 4 / 3), flip=True)
    for batches in epochs:
        seed = int(torch.randint(SEEDS, (), generator=same))
        for (images, labels), rows in zip(batches, order.split(4), strict=True):
            expected = viewed(split.source.images[rows], [views.of(seed, row, 6, 6) for row in rows.tolist()], (6, 6))
            assert torch.equal(images, expected)
            assert torch.equal(labels, split.labels[rows])
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])


def test_two_processes_share_each_batch_of_views(pictures) -> None:
    split, order = pictures(), torch.randperm(20)
    shares = [
        list(
            Classify(WINDOWS).batches(split, order, torch.Generator().manual_seed(3), Feed(Preprocessing(), CPU, r, n))
        )
        for r, n in ((0, 1), (0, 2), (1, 2))
    ]
    for (whole, labels), (first, some), (second, others) in zip(*shares, strict=True):
        assert torch.equal(whole, torch.cat([first, second]))
        assert torch.equal(labels, torch.cat([some, others]))


def test_training_on_views_resumes_and_does_not_depend_on_the_decoding_workers(
    pictures, small_net, tmp_path, monkeypatch
) -> None:
    def trained(**options: Any) -> str:
        net = small_net()
        net = replace(net, preprocessing=replace(net.preprocessing, size=(6, 6)))
        fit(net, split, WINDOWS, device="cpu", **options)
        return fingerprint(net.module)

    def stop(done: int, total: int) -> None:
        if done == total - 1:
            raise KeyboardInterrupt

    split = pictures()
    expected = trained()
    monkeypatch.setattr(ahead, "workers", lambda: 3)
    with pytest.raises(KeyboardInterrupt):
        trained(file=tmp_path / "net.pt", on_step=stop)
    assert trained(file=tmp_path / "net.pt") == expected
