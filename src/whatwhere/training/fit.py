"""The training loop, on Lightning Fabric: it resumes exactly and stops if the loss is not finite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.data import Split
from whatwhere.data.boxes import BoxSplit
from whatwhere.data.scenes import SceneSplit
from whatwhere.devices import check_device
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.fingerprints import architecture
from whatwhere.frozen import NOTHING, Frozen
from whatwhere.network import Network, check_finite, running
from whatwhere.training import checkpoint
from whatwhere.training.evaluate import evaluate
from whatwhere.training.evaluate_scenes import evaluate_scenes
from whatwhere.training.objectives import Loss, Objective, Train, objective_of
from whatwhere.training.recipes import BoxRecipe, Recipe

OnStep = Callable[[int, int], None]
Until = Callable[[Network], Mapping[str, float]]
ENOUGH = "enough"  # in an epoch's record: whether the training ends there


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes:
        epochs: for each epoch: loss, train_accuracy (on the augmented pictures; not of boxes), seconds, test_accuracy
            if `test` was given, and what `until` gave.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)

    @property
    def best(self) -> tuple[int, float] | None:
        """The epoch (from 1; the last of equal ones) with the best test accuracy, and that accuracy."""
        tested = [(e["test_accuracy"], i + 1) for i, e in enumerate(self.epochs) if "test_accuracy" in e]
        return (max(tested)[1], max(tested)[0]) if tested else None


def fit(
    net: nn.Module | Network,
    train: Train,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    file: Path | None = None,
    test: Split | SceneSplit | None = None,
    generators: Mapping[str, torch.Generator] | None = None,
    on_step: OnStep | None = None,
    frozen: Frozen = NOTHING,
    objective: Objective | None = None,
    until: Until | None = None,
) -> History:
    """Train a network in place.

    On the CPU the same seed gives bit-identical weights, also after an interruption.

    Args:
        net: the network; its module is trained, and moved to the device. A plain module gets pictures as by `evaluate`.
        train: labelled pictures, scenes with label maps, or pictures with boxes.
        recipe: how to train; a `SceneRecipe` for scenes, a `BoxRecipe` for a detector.
        seed: of the order of the pictures and of their augmentation.
        device: `auto`, `cpu`, `cuda` or `mps`.
        file: checkpoint, written after every epoch. An existing one is resumed and replaces the network's weights;
            one of another recipe, seed, pictures or layers is refused.
        test: pictures to evaluate on after every epoch.
        generators: further random generators (of an intervention), saved and restored with the checkpoint.
        on_step: called after every step with (steps done, total steps).
        frozen: parts of the network that stay as they are.
        objective: the task, where it is not that of the recipe.
        until: called after every epoch with the network, for values that join the epoch's record; the training ends
            where they say `enough`.

    Raises:
        InputError: if the pictures have no labels or are fewer than a batch, the network has too few scores, does not
            run on the pictures or has weights that are not finite, the device is not available, or the checkpoint
            belongs to another training.
        TrainingDiverged: if the loss or a weight is not finite; the message names the step and the last checkpoint.
    """
    if len(train) < recipe.batch_size:
        raise InputError(
            f"batch_size={recipe.batch_size} is more than the {len(train)} training pictures; give a smaller one."
        )
    if isinstance(train, BoxSplit) and not isinstance(recipe, BoxRecipe):
        raise InputError(
            "recipe: pictures with boxes are learned by a BoxRecipe; give ww.recipes['boxes'], or --recipe boxes."
        )
    net = net if isinstance(net, Network) else Network(net)
    check_finite(net)
    draws = torch.Generator().manual_seed(seed)
    fabric = _fabric(device, recipe)
    net.module.to(memory_format=torch.channels_last)  # about twice as fast in training on CPUs
    module, optimizer = fabric.setup(net.module, _optimizer(net.module, recipe))
    progress = checkpoint.Progress(net.module, optimizer, {"pictures": draws, **(generators or {})}, 0, [])
    about = {"seed": seed, "pictures": train.fingerprint, "layers": architecture(net.module)} if file else {}
    with _seeded(seed), frozen.held(net.module):
        if file and file.exists():
            checkpoint.load(file, progress, recipe.to_dict(), **about)
        task = objective or objective_of(recipe)
        loop = _Loop(fabric, module, net, optimizer, recipe, train, draws, on_step, file, frozen, task)
        while progress.epoch < recipe.epochs and not _ended(progress):
            record = loop.epoch(progress.epoch)
            if test is not None:
                record["test_accuracy"] = _tested(net, test)
            if until is not None:
                record |= until(net)
            progress.history.append(record)
            progress.epoch += 1
            if file:
                checkpoint.save(file, progress, recipe.to_dict(), **about)
    net.module.eval()
    return History(progress.history)


def _ended(progress: checkpoint.Progress) -> bool:
    """Whether the last epoch was enough, also one before an interruption."""
    return bool(progress.history and progress.history[-1].get(ENOUGH))


def _tested(net: Network, test: Split | SceneSplit) -> float:
    return evaluate_scenes(net, test).accuracy if isinstance(test, SceneSplit) else evaluate(net, test).accuracy


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generator, which dropout draws from; the caller's state is restored afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _fabric(device: str, recipe: Recipe) -> Any:
    from lightning_fabric import Fabric  # takes seconds to import, and evaluating does not need it

    check_device(device)
    kind, _, index = str(device).partition(":")
    try:
        return Fabric(accelerator=kind, devices=[int(index)] if index else 1, precision=recipe.precision)
    except (ValueError, RuntimeError) as error:  # hardware that does not do as it says
        raise InputError(f"device={device!r} cannot be used ({error}); give 'auto' or 'cpu'.") from error


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        module.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def lone_norm(module: nn.Module, images: Tensor) -> str:
    """The batch norm whose forward pass fails, as it does in training on a single value a channel."""
    entered = [""]
    norms = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    handles = [m.register_forward_pre_hook(lambda *_, name=n: entered.append(name)) for n, m in norms]
    try:
        with torch.no_grad():
            module(images)
    except ValueError:  # again
        pass
    finally:
        for handle in handles:
            handle.remove()
    return entered[-1] or "the network"


@dataclass
class _Loop:
    fabric: Any
    module: Any  # Fabric's wrapper, which casts
    net: Network
    optimizer: Any
    recipe: Recipe
    train: Train
    draws: torch.Generator
    on_step: OnStep | None
    file: Path | None
    frozen: Frozen
    objective: Objective

    @property
    def steps(self) -> int:
        """Steps in an epoch; the last, incomplete batch is left out."""
        return len(self.train) // self.recipe.batch_size

    def epoch(self, number: int) -> dict[str, float]:
        """Train on every picture once; returns the record of the epoch."""
        started, total, right, counted = time.perf_counter(), 0.0, 0, 0
        self.module.train()  # Fabric's wrapper, too
        self.frozen.train(self.net.module)
        for i, (images, labels) in enumerate(self._batches()):
            step = number * self.steps + i
            loss = self._step(step, images, labels)
            total += self._finite(loss.value, step)
            right, counted = right + loss.right, counted + (loss.counted or 0)
            if self.on_step:
                self.on_step(step + 1, self.steps * self.recipe.epochs)
        self._finite_weights(step)
        accuracy = {} if loss.counted is None else {"train_accuracy": right / max(counted, 1)}
        return {"loss": total / self.steps, **accuracy, "seconds": time.perf_counter() - started}

    def _batches(self) -> Iterator[tuple[Tensor, Any]]:
        size = self.recipe.batch_size
        order = torch.randperm(len(self.train), generator=self.draws)[: self.steps * size]
        for images, labels in self.objective.batches(self.train, order, self.draws, self.net.preprocessing):
            there = images.to(self.fabric.device)
            yield self.net.preprocessing.normalise(there), labels.to(self.fabric.device)

    def _step(self, step: int, images: Tensor, labels: Any) -> Loss:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * self.recipe.factor(step, self.steps)
        output = self._output(images)
        if step == 0:
            self.objective.check(output, self.train)
        loss = self.objective.loss(output, labels)
        self.optimizer.zero_grad()
        self.fabric.backward(loss.value)
        self.optimizer.step()
        return replace(loss, value=loss.value.detach())

    def _output(self, images: Tensor) -> Any:
        try:
            with running(self.net, images.shape[1:]):
                return self.module(images)
        except InputError as error:
            if len(images) > 1 or not isinstance(error.__cause__, ValueError):
                raise
            name = lone_norm(self.net.module, images)
            raise InputError(
                f"batch_size=1: {name} sees one value a channel (one picture, maps of 1 x 1), of which batch norm can "
                "learn nothing; give a batch_size of 2 or more."
            ) from error

    def _finite(self, loss: Tensor, step: int) -> float:
        value = loss.item()
        if value - value != 0:  # NaN or infinite
            raise TrainingDiverged(self._advice(f"the loss is {value}", step))
        return value

    def _finite_weights(self, step: int) -> None:
        # The epoch's last step may break them after its loss was computed; such a checkpoint would be useless.
        if not all(bool(p.isfinite().all()) for p in self.net.module.parameters()):
            raise TrainingDiverged(self._advice("weights are not finite", step))

    def _advice(self, what: str, step: int) -> str:
        there = self.file and self.file.exists()
        kept = f"The last good checkpoint is {self.file}." if there else "No epoch was complete."
        return (
            f"{what} at step {step + 1} (epoch {step // self.steps + 1}) with lr={self.recipe.lr}. {kept} "
            "Give a lower lr or a longer warmup, or check the pictures for values that are not finite."
        )
