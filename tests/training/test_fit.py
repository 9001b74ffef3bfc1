import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning_fabric
import pytest
import torch
from torch import Tensor, nn

from whatwhere.data import Split
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.frozen import Frozen
from whatwhere.hold.padding import with_padding
from whatwhere.models.load import load_model
from whatwhere.need import shuffle
from whatwhere.network import Network, Preprocessing
from whatwhere.site_table import list_sites
from whatwhere.training.augment import augment
from whatwhere.training.class_weights import logarithmic
from whatwhere.training.evaluate import evaluate
from whatwhere.training.evaluate_scenes import evaluate_scenes
from whatwhere.training.fit import History, _fabric, _quietly, fit
from whatwhere.training.recipes import Recipe, SceneRecipe

MakeSplit = Callable[..., Split]
MakeNet = Callable[..., Network]
RECIPE = Recipe(epochs=3, batch_size=5, lr=0.05, crop_padding=1)
SCENE_RECIPE = SceneRecipe(epochs=3, batch_size=4, lr=3e-3, optimizer="adamw", crop=(32, 32))


def weights(net: Network) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in net.module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def without_seconds(history: History) -> list[dict[str, float]]:
    return [{k: v for k, v in e.items() if k != "seconds"} for e in history.epochs]


def trained(
    net: Network, split: Split | SceneSplit, recipe: Recipe = RECIPE, **options: Any
) -> tuple[dict[str, Tensor], History]:
    torch.manual_seed(11)  # dropout draws from the global generator
    history = fit(net, split, recipe, device="cpu", **options)
    return weights(net), history


def stopping_at(last: int) -> Any:
    def on_step(done: int, total: int) -> None:
        if done == last:
            raise KeyboardInterrupt

    return on_step


# The step and the loop, against loops of their own


@pytest.mark.parametrize("deterministic", ["nothing", "algorithms", "cudnn"])
def test_kernels_are_tried_out_unless_they_must_be_deterministic(
    pictures: MakeSplit, small_net: MakeNet, monkeypatch: pytest.MonkeyPatch, deterministic: str
) -> None:
    seen, before = [], torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic == "cudnn")
    torch.use_deterministic_algorithms(deterministic == "algorithms")
    look = lambda *_: seen.append(torch.backends.cudnn.benchmark)  # noqa: E731
    try:
        fit(small_net(), pictures(10), RECIPE, device="cpu", on_step=look)
    finally:
        torch.use_deterministic_algorithms(False)
    assert seen == [deterministic == "nothing"] * 6
    assert torch.backends.cudnn.benchmark == before


def test_what_fabric_says_of_a_cluster_is_not_shown(recwarn: pytest.WarningsRecorder) -> None:
    with _quietly():
        warnings.warn("The `srun` command is available on your system but is not used.", stacklevel=1)
        warnings.warn("something else", stacklevel=1)
    assert [str(w.message) for w in recwarn] == ["something else"]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_training_is_sgd_by_hand(pictures: MakeSplit, nesterov: bool, smoothing: float) -> None:
    """A linear network: gradient, weight decay, momentum, Nesterov and smoothing written out, in double precision."""
    split, classes = pictures(10), 3
    torch.manual_seed(0)
    linear = nn.Linear(108, classes)
    recipe = Recipe(
        epochs=4,
        batch_size=5,
        lr=0.1,
        schedule="step",
        milestones=(2,),
        gamma=0.3,
        momentum=0.8,
        nesterov=nesterov,
        weight_decay=0.02,
        label_smoothing=smoothing,
        crop_padding=0,
        flip=False,
    )
    w, b = (p.detach().double().clone() for p in linear.parameters())
    speed_w, speed_b = torch.zeros_like(w), torch.zeros_like(b)
    draws, losses = torch.Generator().manual_seed(7), []
    images = next(split.batches(10))[0].double()
    x = ((images / 255 - 0.5) / 0.5).flatten(1)
    for epoch in range(4):
        order, total = torch.randperm(10, generator=draws), 0.0
        for rows in (order[:5], order[5:]):
            p = torch.softmax(x[rows] @ w.T + b, 1)
            wanted = torch.full((5, classes), smoothing / classes, dtype=torch.float64)
            wanted[range(5), split.labels[rows]] += 1 - smoothing
            total += -(wanted * p.log()).sum().item() / 5
            delta = (p - wanted) / 5  # of the mean cross-entropy, by the scores
            lr = 0.1 * (1 if epoch < 2 else 0.3)
            for value, speed, gradient in ((w, speed_w, delta.T @ x[rows]), (b, speed_b, delta.sum(0))):
                gradient = gradient + 0.02 * value
                speed.mul_(0.8).add_(gradient)
                value -= lr * (gradient + 0.8 * speed if nesterov else speed)
        losses.append(total / 2)
    history = fit(Network(nn.Sequential(nn.Flatten(), linear)), split, recipe, seed=7, device="cpu")
    assert torch.allclose(linear.weight.detach().double(), w, atol=1e-5)
    assert torch.allclose(linear.bias.detach().double(), b, atol=1e-5)
    assert [e["loss"] for e in history.epochs] == pytest.approx(losses, rel=1e-4)


def test_adamw_by_hand(pictures: MakeSplit) -> None:
    split, linear = pictures(10), nn.Linear(108, 3)
    recipe = Recipe(
        epochs=3,
        batch_size=10,
        optimizer="adamw",
        lr=0.01,
        schedule="constant",
        weight_decay=0.1,
        crop_padding=0,
        flip=False,
    )
    w, b = (p.detach().double().clone() for p in linear.parameters())
    first, second, first_b, second_b = (torch.zeros_like(p) for p in (w, w, b, b))
    images = next(split.batches(10))[0].double()
    x = ((images / 255 - 0.5) / 0.5).flatten(1)
    for t in (1, 2, 3):
        delta = (torch.softmax(x @ w.T + b, 1) - nn.functional.one_hot(split.labels)) / 10
        g, g_b = delta.T @ x, delta.sum(0)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        first_b, second_b = 0.9 * first_b + 0.1 * g_b, 0.999 * second_b + 0.001 * g_b**2
        w = w * (1 - 0.01 * 0.1) - 0.01 * first / (1 - 0.9**t) / ((second / (1 - 0.999**t)) ** 0.5 + 1e-8)
        b = b * (1 - 0.01 * 0.1) - 0.01 * first_b / (1 - 0.9**t) / ((second_b / (1 - 0.999**t)) ** 0.5 + 1e-8)
    fit(Network(nn.Sequential(nn.Flatten(), linear)), split, recipe, device="cpu")
    assert torch.allclose(linear.weight.detach().double(), w, atol=1e-5)
    assert torch.allclose(linear.bias.detach().double(), b, atol=1e-5)


def test_augmented_batches_reach_the_network(pictures: MakeSplit) -> None:
    """What the network sees is the order's pictures, augmented with draws of the same generator, then normalised."""
    seen: list[Tensor] = []

    class Eye(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return self.bias.expand(len(x), 3)

    split, recipe = pictures(), replace(RECIPE, epochs=2)
    fit(Network(Eye()), split, recipe, seed=4, device="cpu")
    draws, step = torch.Generator().manual_seed(4), 0
    images = next(split.batches(22))[0]
    for _ in range(2):
        order = torch.randperm(22, generator=draws)[:20]  # the last, smaller batch is left out
        for rows in (order[i : i + 5] for i in range(0, 20, 5)):
            mixed = augment(images[rows], recipe, draws)
            assert torch.allclose(seen[step], (mixed.float() / 255 - 0.5) / 0.5, atol=1e-6)
            step += 1
    assert len(seen) == step == 8


def test_the_learning_rate_is_the_recipes_at_every_step_also_after_resuming(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[float] = []
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD, *args: Any, **kwargs: Any) -> Any:
        used.extend(g["lr"] for g in self.param_groups)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 6:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"device": "cpu", "file": tmp_path / "c.pt", "on_step": stop}
    with pytest.raises(KeyboardInterrupt):
        fit(small_net(), pictures(), RECIPE, **options)
    assert used == pytest.approx([0.05 * RECIPE.factor(i, 4) for i in range(6)])
    fit(small_net(), pictures(), RECIPE, **options)
    assert used[6:] == pytest.approx([0.05 * RECIPE.factor(i, 4) for i in range(4, 12)])
    assert told == [(i, 12) for i in (1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10, 11, 12)]


# Exactly the same again


def test_the_same_seed_gives_the_same_bits(pictures: MakeSplit, small_net: MakeNet) -> None:
    (a, first), (b, second) = (trained(small_net(), pictures(), seed=1) for _ in range(2))
    other, _ = trained(small_net(), pictures(), seed=2)
    assert same(a, b)
    assert without_seconds(first) == without_seconds(second)
    assert not same(a, other)
    assert not same(a, weights(small_net()))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_interrupted_training_ends_at_the_same_bits(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path, optimizer: Any
) -> None:
    """With dropout, and a shuffle whose generator is saved; stopped in the middle of the second epoch."""
    recipe = replace(RECIPE, optimizer=optimizer, nesterov=optimizer == "sgd", lr=0.01)

    def run(file: Path | None, stop: int | None = None) -> tuple[dict[str, Tensor], History]:
        net, draws = small_net(), torch.Generator().manual_seed(5)

        def on_step(done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        with shuffle(net, "0", generator=draws, table=list_sites(net, input_size=(3, 6, 6))):
            options: dict[str, Any] = {"generators": {"shuffle": draws}, "on_step": on_step, "test": pictures(9)}
            return trained(net, pictures(), recipe, file=file, **options)

    expected, history = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "c.pt", stop=6)
    torch.rand(100)  # whatever happens in between
    found, resumed = run(tmp_path / "c.pt")
    assert same(found, expected)
    assert without_seconds(resumed) == without_seconds(history)
    again, third = run(tmp_path / "c.pt")  # complete: nothing is left to do
    assert same(again, expected)
    assert len(third.epochs) == 3


def test_evaluating_on_the_way_changes_nothing(pictures: MakeSplit, small_net: MakeNet) -> None:
    a, _ = trained(small_net(), pictures())
    b, history = trained(small_net(), pictures(), test=pictures(9))
    assert same(a, b)
    assert all("test_accuracy" in e for e in history.epochs)


def test_a_network_in_evaluation_mode_is_trained_all_the_same(pictures: MakeSplit, small_net: MakeNet) -> None:
    net = small_net()
    net.module.eval()
    assert same(trained(net, pictures())[0], trained(small_net(), pictures())[0])


def test_bfloat16_keeps_full_weights(pictures: MakeSplit, small_net: MakeNet) -> None:
    (full, _), (half, _) = (
        trained(small_net(), pictures(), replace(RECIPE, precision=p)) for p in ("32-true", "bf16-mixed")
    )
    assert not same(full, half)
    assert all(torch.allclose(full[k].float(), half[k].float(), atol=0.1) for k in full)
    assert half["0.weight"].dtype == torch.float32


# What is left behind


def test_the_module_is_a_plain_module_after(pictures: MakeSplit, small_net: MakeNet) -> None:
    net = small_net()
    module, parts = net.module, list(net.module.modules())
    before = [(type(m), set(vars(m)), {k: len(v) for k, v in vars(m).items() if "hook" in k and v}) for m in parts]
    forwards = [m.forward for m in parts]
    fit(net, pictures(), RECIPE, device="cpu")
    assert net.module is module
    assert list(module.modules()) == parts
    after = [(type(m), set(vars(m)), {k: len(v) for k, v in vars(m).items() if "hook" in k and v}) for m in parts]
    assert after == before
    assert [m.forward for m in parts] == forwards
    assert not any(m.training for m in parts)
    torch.save(module, Path("/dev/null"))  # picklable, so no closures of a wrapper


def test_history_names_the_best_epoch(pictures: MakeSplit, small_net: MakeNet) -> None:
    _, history = trained(small_net(), pictures(), test=pictures(9))
    accuracies = [e["test_accuracy"] for e in history.epochs]
    assert history.best is not None
    assert history.best[1] == max(accuracies)
    assert accuracies[history.best[0] - 1] == max(accuracies)
    assert History([{"test_accuracy": a} for a in (0.2, 0.9, 0.9, 0.1)]).best == (3, 0.9)
    assert History([{"loss": 1.0}]).best is None


def test_accuracies_are_those_of_a_loop(pictures: MakeSplit, small_net: MakeNet) -> None:
    net, split = small_net(), pictures()
    history = fit(net, split, replace(RECIPE, epochs=1), device="cpu", test=split)
    assert history.epochs[0]["test_accuracy"] == evaluate(net, split).accuracy
    assert history.epochs[0]["train_accuracy"] * 20 == pytest.approx(round(history.epochs[0]["train_accuracy"] * 20))
    assert history.epochs[0]["seconds"] > 0


def test_it_learns(pictures: MakeSplit) -> None:
    """Classes that a mean colour tells apart."""
    labels = torch.arange(60) % 3
    images = torch.zeros(60, 3, 6, 6, dtype=torch.uint8)
    images[range(60), labels] = 200
    net = Network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)))
    split = Split("train", Memory(images), labels, ["r", "g", "b"])
    history = fit(net, split, Recipe(epochs=5, batch_size=10), device="cpu")
    assert evaluate(net, split).accuracy == 1.0
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"]


# What goes wrong


class Poisoned(nn.Module):
    """Gives scores that are not finite from some forward pass in training on."""

    def __init__(self, module: nn.Module, after: int, value: float) -> None:
        super().__init__()
        self.module, self.after, self.value = module, after, value

    def forward(self, x: Tensor) -> Tensor:
        self.after -= self.training
        scores: Tensor = self.module(x)
        return scores * self.value if self.after < 0 else scores


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(pictures: MakeSplit, small_net: MakeNet, tmp_path: Path, value: float) -> None:
    net, file = small_net(), tmp_path / "c.pt"
    poisoned = Network(Poisoned(net.module, 6, value), net.preprocessing)
    message = (
        r"the loss is (nan|inf) at step 7 \(epoch 2\) with lr=0\.05\. The last good checkpoint is .*c\.pt\. Give a"
    )
    with pytest.raises(TrainingDiverged, match=message):
        fit(poisoned, pictures(), RECIPE, device="cpu", file=file)
    assert all(t.isfinite().all() for t in torch.load(file)["module"].values())
    poisoned = Network(Poisoned(small_net().module, 1, value), net.preprocessing)
    with pytest.raises(TrainingDiverged, match=r"at step 2 \(epoch 1\).* No epoch was complete\."):
        fit(poisoned, pictures(), RECIPE, device="cpu")


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_kept(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path
) -> None:
    net, file = small_net(), tmp_path / "c.pt"

    def break_them(done: int, total: int) -> None:
        if done == 8:
            net.module[0].weight.data[0] = float("inf")  # type: ignore[index]

    with pytest.raises(TrainingDiverged, match=r"weights are not finite at step 8 \(epoch 2\)"):
        fit(net, pictures(), RECIPE, device="cpu", file=file, on_step=break_them)
    kept = torch.load(file)
    assert kept["epoch"] == 1
    assert all(t.isfinite().all() for t in kept["module"].values())


@pytest.mark.parametrize(
    ("change", "seed", "message"),
    [
        ({"lr": 0.2}, 0, r"another recipe: lr \(0\.05 there, 0\.2 now\); choose another folder or delete it"),
        ({}, 1, r"another recipe: seed \(0 there, 1 now\)"),
    ],
)
def test_the_checkpoint_of_another_training_is_refused(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path, change: dict[str, Any], seed: int, message: str
) -> None:
    fit(small_net(), pictures(), RECIPE, device="cpu", file=tmp_path / "c.pt")
    with pytest.raises(InputError, match=message):
        fit(small_net(), pictures(), replace(RECIPE, **change), seed=seed, device="cpu", file=tmp_path / "c.pt")


def test_the_checkpoint_of_other_pictures_is_refused(pictures: MakeSplit, small_net: MakeNet, tmp_path: Path) -> None:
    fit(small_net(), pictures(), RECIPE, device="cpu", file=tmp_path / "c.pt")
    with pytest.raises(InputError, match="another recipe: pictures"):
        fit(small_net(), pictures(seed=1), RECIPE, device="cpu", file=tmp_path / "c.pt")


def test_the_checkpoint_of_another_preprocessing_is_refused(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path
) -> None:
    fit(small_net(), pictures(), RECIPE, device="cpu", file=tmp_path / "c.pt")
    moved = replace(small_net().preprocessing, source="the same numbers of another folder")
    fit(Network(small_net().module, moved), pictures(), RECIPE, device="cpu", file=tmp_path / "c.pt")
    other = Network(small_net().module, Preprocessing(mean=(0.4, 0.5, 0.7), std=(0.2, 0.3, 0.25)))
    with pytest.raises(InputError, match=r"another recipe: preprocessing \(.*0\.5, 0\.6.* there, .*0\.5, 0\.7.* now\)"):
        fit(other, pictures(), RECIPE, device="cpu", file=tmp_path / "c.pt")


def test_the_checkpoint_of_other_frozen_parts_is_refused(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path
) -> None:
    how: dict[str, Any] = {"device": "cpu", "file": tmp_path / "c.pt"}
    fit(small_net(), pictures(), RECIPE, frozen=FROZEN, **how)
    fit(small_net(), pictures(), RECIPE, frozen=Frozen(("1", "0"), FROZEN.parameters[::-1]), **how)
    with pytest.raises(InputError, match=r"another recipe: frozen \(.*'0\.weight'.* there, .*\(\).* now\)"):
        fit(small_net(), pictures(), RECIPE, **how)


def test_a_checkpoint_that_tells_less_of_its_training_goes_on(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path
) -> None:
    """Those from before preprocessing and frozen parts were kept."""
    expected, _ = trained(small_net(), pictures(), frozen=FROZEN)
    file = tmp_path / "c.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(small_net(), pictures(), frozen=FROZEN, file=file, on_step=stopping_at(6))
    state = torch.load(file)
    del state["about"]["preprocessing"], state["about"]["frozen"]
    torch.save(state, file)
    assert same(trained(small_net(), pictures(), frozen=FROZEN, file=file)[0], expected)


def test_the_checkpoint_of_changed_pictures_is_refused_if_it_knows_their_content(
    small_net: MakeNet, tmp_path: Path
) -> None:
    def split(value: int) -> Split:
        """200 pictures, of which only one that no fingerprint reads has the value."""
        images = torch.randint(0, 256, (200, 3, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        images[1] = value
        return Split("train", Memory(images), torch.arange(200) % 3, list("abc"))

    file, recipe = tmp_path / "c.pt", replace(RECIPE, epochs=1, batch_size=100)
    fit(small_net(), split(0), recipe, device="cpu", file=file)
    assert split(0).fingerprint == split(9).fingerprint
    with pytest.raises(InputError, match=r"another recipe: contents \('[0-9a-f]{16}' there, '[0-9a-f]{16}' now\);"):
        fit(small_net(), split(9), recipe, device="cpu", file=file)
    state = torch.load(file)
    del state["about"]["contents"]  # as earlier versions wrote it
    torch.save(state, file)
    assert len(fit(small_net(), split(9), recipe, device="cpu", file=file).epochs) == 1


def test_fewer_pictures_than_a_batch(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.raises(InputError, match="batch_size=23 is more than the 22 training pictures; give a smaller one"):
        fit(small_net(), pictures(), replace(RECIPE, batch_size=23), device="cpu")
    assert len(fit(small_net(), pictures(), replace(RECIPE, batch_size=22), device="cpu").epochs) == 3


def test_labels_that_have_no_score(small_net: MakeNet) -> None:
    """One such label in all the pictures, that the first batch need not hold."""
    labels = torch.zeros(40, dtype=torch.int64)
    labels[17] = 3
    split = Split("train", Memory(torch.zeros(40, 3, 6, 6, dtype=torch.uint8)), labels, list("abcd"))
    for seed in range(3):
        with pytest.raises(InputError, match="label 3, but the network gives 3 scores"):
            fit(small_net(), split, RECIPE, device="cpu", seed=seed)


def test_pictures_without_labels(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.raises(InputError, match="have no labels"):
        fit(small_net(), pictures(labelled=False), RECIPE, device="cpu")


def test_a_device_that_is_not_there(pictures: MakeSplit, small_net: MakeNet) -> None:
    with pytest.raises(InputError, match=r"device='tube' cannot be used .* give 'auto' or 'cpu'"):
        fit(small_net(), pictures(), RECIPE, device="tube")


@pytest.mark.parametrize(
    ("device", "accelerator", "devices"), [("auto", "auto", 1), ("cuda", "cuda", 1), ("cuda:1", "cuda", [1])]
)
def test_one_device_is_asked_for(device: str, accelerator: str, devices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(lightning_fabric, "Fabric", lambda **given: given)
    asked = _fabric(device, RECIPE)
    assert asked == {"accelerator": accelerator, "devices": devices, "precision": RECIPE.precision}


# Scenes


@pytest.fixture(scope="module")
def streets() -> Scenes:
    return drawn_streets(train=8, validation=1, test=3, size=(32, 48))


def segmenter(scenes: Scenes) -> Network:
    return load_model("pspnet/resnet10t", classes=len(scenes.classes), width=0.1, seed=1)


def test_a_segmentation_network_learns_streets(streets: Scenes) -> None:
    net = segmenter(streets)
    before = evaluate_scenes(net, streets.train)
    recipe = replace(SCENE_RECIPE, epochs=10, batch_size=2, lr=1e-2, scale=(1.0, 1.5))
    history = fit(net, streets.train, recipe, device="cpu", test=streets.test)
    losses = [e["loss"] for e in history.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert history.epochs[-1]["test_accuracy"] == evaluate_scenes(net, streets.test).accuracy
    assert evaluate_scenes(net, streets.train).accuracy > before.accuracy + 0.2
    assert not net.module.training


def test_an_interrupted_segmentation_ends_at_the_same_bits(streets: Scenes, tmp_path: Path) -> None:
    """With dropout, and draws of scale, place and mirror; stopped in the middle of the second epoch."""

    def run(file: Path | None, stop: int | None = None) -> tuple[dict[str, Tensor], History]:
        def on_step(done: int, total: int) -> None:
            if done == stop:
                raise KeyboardInterrupt

        return trained(segmenter(streets), streets.train, SCENE_RECIPE, file=file, on_step=on_step)

    expected, history = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "c.pt", stop=3)
    found, resumed = run(tmp_path / "c.pt")
    assert same(found, expected)
    assert without_seconds(resumed) == without_seconds(history)
    assert len(resumed.epochs) == 3
    with pytest.raises(InputError, match=r"another recipe: crop \(\(32, 32\) there, \(32, 40\) now\)"):
        fit(
            segmenter(streets),
            streets.train,
            replace(SCENE_RECIPE, crop=(32, 40)),
            device="cpu",
            file=tmp_path / "c.pt",
        )


def test_segmentation_is_sgd_by_hand() -> None:
    """One score a class for every pixel, whatever it shows; a quarter of the pixels is not labelled."""

    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(3))

        def forward(self, x: Tensor) -> Tensor:
            return self.bias.view(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])

    maps = torch.tensor([[[0, 1], [1, 255]], [[2, 1], [1, 255]]], dtype=torch.uint8)
    split = SceneSplit("train", Memory(torch.zeros(2, 3, 2, 2, dtype=torch.uint8)), {"class": Memory(maps)}, "abc")
    recipe = SceneRecipe(
        epochs=3,
        batch_size=2,
        lr=0.5,
        momentum=0.0,
        weight_decay=0.0,
        crop=None,
        class_weights=(1.0, 0.5, 4.0),
    )
    bias, weights_, labels = torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 0.5, 4.0]), [0, 1, 1, 2, 1, 1]
    for step in range(3):
        p, gradient = torch.softmax(bias, 0), torch.zeros(3, dtype=torch.float64)
        for label in labels:
            gradient += weights_[label] * (p - torch.eye(3, dtype=torch.float64)[label])
        bias -= 0.5 * (1 - step / 3) ** 0.9 * gradient / sum(weights_[label] for label in labels)
    module = Bias()
    net = Network(module)
    history = fit(net, split, recipe, device="cpu", test=split)
    assert torch.allclose(module.bias.detach().double(), bias, atol=1e-6)
    assert history.epochs[-1]["test_accuracy"] == 1 / 6
    assert history.epochs[-1]["train_accuracy"] == 1 / 6


def test_what_scenes_cannot_be_learned_is_said(streets: Scenes) -> None:
    few = load_model("pspnet/resnet10t", classes=2, width=0.1)
    with pytest.raises(InputError, match="the network gives 2 scores a pixel; load it with classes="):
        fit(few, streets.train, SCENE_RECIPE, device="cpu")
    with pytest.raises(InputError, match=r"batch_size=9 is more than the 8 training pictures"):
        fit(few, streets.train, replace(SCENE_RECIPE, batch_size=9), device="cpu")
    weighted = replace(SCENE_RECIPE, class_weights=logarithmic(streets.train))
    with pytest.raises(InputError, match=rf"{len(streets.classes)} class_weights, but the network gives 2 scores"):
        fit(few, streets.train, weighted, device="cpu")


def test_a_checkpoint_of_other_layers_is_refused(pictures: MakeSplit, small_net: MakeNet, tmp_path: Path) -> None:
    """The same weights fit a network with other padding, which learns something else."""
    file = tmp_path / "c.pt"
    fit(small_net(), pictures(), RECIPE, file=file)
    other = with_padding(small_net(), "circular", input_size=(3, 6, 6))
    with pytest.raises(InputError, match="layers"):
        fit(other, pictures(), RECIPE, file=file)


def test_batch_norm_on_a_single_value_is_explained_and_the_layer_named(pictures: MakeSplit) -> None:
    net = Network(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten())
    )
    recipe = Recipe(epochs=1, batch_size=1, lr=0.01)
    with pytest.raises(InputError, match=r"batch_size=1: 3 sees one value a channel.*give a batch_size of 2 or more"):
        fit(net, pictures(), recipe)
    assert not any(m._forward_pre_hooks for m in net.module.modules())
    del net.module[3]  # maps of more than one position are enough
    fit(net, pictures(), recipe)


def test_weights_that_are_not_finite_are_not_trained_on(pictures: MakeSplit, small_net: MakeNet) -> None:
    net = small_net()
    next(net.module.parameters()).data.view(-1)[0] = torch.inf
    with pytest.raises(InputError, match="holds infinity in 1 of its"):
        fit(net, pictures(), Recipe(epochs=1, batch_size=2, lr=0.01))


def test_a_plain_module_is_trained_in_place(pictures: MakeSplit, small_net: MakeNet) -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = net[0].weight.detach().clone()
    fit(net, pictures(), Recipe(epochs=1, batch_size=4, lr=0.1))
    assert not torch.equal(net[0].weight, before)
    with pytest.raises(InputError, match=r"a Network is made of a torch.nn.Module, not of a str"):
        fit("cifar/vgg11", pictures(), Recipe(epochs=1, batch_size=4, lr=0.1))  # type: ignore[arg-type]


# What is frozen, what is learned, and when it is enough


FROZEN = Frozen(("0", "1"), ("0.weight", "0.bias", "1.weight", "1.bias"))


def test_what_is_frozen_stays_and_gets_no_gradient(pictures: MakeSplit, small_net: MakeNet) -> None:
    net, before = small_net(), weights(small_net())
    gradients: list[bool] = []
    net.module[0].register_forward_hook(lambda m, given, out: gradients.append(out.requires_grad))  # type: ignore[operator]
    after, _ = trained(net, pictures(), frozen=FROZEN)
    assert {k for k in after if torch.equal(after[k], before[k])} == {k for k in after if k[0] in "01"}
    assert gradients
    assert not any(gradients)
    assert all(p.requires_grad for p in net.module.parameters())


def test_a_frozen_half_trains_the_other_as_if_its_values_were_the_pictures(
    pictures: MakeSplit, small_net: MakeNet
) -> None:
    """By hand: SGD on the last layer, of values that the frozen layers give in evaluation mode."""
    split, recipe = pictures(10), Recipe(epochs=2, batch_size=5, lr=0.1, schedule="constant", momentum=0.0, flip=False)
    recipe = replace(recipe, crop_padding=0, weight_decay=0.0)
    net, by_hand = small_net(), small_net().module.eval()
    fit(net, split, recipe, seed=3, device="cpu", frozen=Frozen(("0", "1", "3"), FROZEN.parameters))
    w, b = (p.detach().clone() for p in (by_hand[5].weight, by_hand[5].bias))  # type: ignore[index]
    draws = torch.Generator().manual_seed(3)
    for _ in range(2):
        for rows in torch.randperm(10, generator=draws).split(5):
            images, labels = next(split.batches(5, order=rows))
            with torch.no_grad():
                x = by_hand[:5](net.preprocessing.normalise(images))  # type: ignore[index]
            miss = torch.softmax(x @ w.T + b, 1) - nn.functional.one_hot(labels, 3)
            w, b = w - 0.1 * miss.T @ x / 5, b - 0.1 * miss.mean(0)
    assert torch.allclose(net.module.state_dict()["5.weight"], w, atol=1e-5)
    assert torch.allclose(net.module.state_dict()["5.bias"], b, atol=1e-5)


def test_a_training_ends_where_it_is_enough_also_after_a_kill(
    pictures: MakeSplit, small_net: MakeNet, tmp_path: Path
) -> None:
    seen: list[Network] = []

    def until(net: Network) -> dict[str, float]:
        seen.append(net)
        return {"looked": len(seen), "enough": len(seen) == 2}

    file = tmp_path / "c.pt"
    after, history = trained(small_net(), pictures(), file=file, until=until)
    assert [(e["looked"], e["enough"]) for e in history.epochs] == [(1, False), (2, True)]
    again, same_history = trained(small_net(seed=1), pictures(), file=file, until=until)
    assert len(seen) == 2
    assert same(after, again)
    assert same_history.epochs == history.epochs
    longer, _ = trained(small_net(), pictures())
    assert not same(after, longer)


def test_looking_changes_nothing(pictures: MakeSplit, small_net: MakeNet) -> None:
    looked, _ = trained(small_net(), pictures(), until=lambda net: {"n": evaluate(net, pictures(seed=1)).accuracy})
    assert same(looked, trained(small_net(), pictures())[0])
