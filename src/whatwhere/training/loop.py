"""An epoch of a training: batches of an objective, one step for each, and what is recorded of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.descent import NotFinite, descend
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.frozen import Frozen
from whatwhere.network import Network, running
from whatwhere.training import ranks
from whatwhere.training.averages import Averages
from whatwhere.training.feed import Feed
from whatwhere.training.objectives import Objective, Train
from whatwhere.training.recipes import Recipe

OnStep = Callable[[int, int], None]
BATCH_NORM = nn.modules.batchnorm._BatchNorm


def lone_norm(module: nn.Module, images: Tensor) -> str:
    """The batch norm whose forward pass fails, as it does in training on a single value a channel."""
    entered = [""]
    norms = [(n, m) for n, m in module.named_modules() if isinstance(m, BATCH_NORM)]
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
class Loop:
    """What a training's epochs need.

    Attributes:
        fabric: Lightning's, which places tensors and casts.
        module: the network as Fabric wraps it, compiled if the recipe says so.
        net: the network.
        optimizer: of its weights, as Fabric wraps it.
        recipe: how to train.
        train: what is learned from.
        draws: of the order and the augmentation.
        feed: how pictures get to the device.
        objective: the task.
        frozen: parts that stay as they are.
        averages: of the weights, if the recipe wants them.
        on_step: called after every step with (steps done, total steps).
        file: the checkpoint, named in errors.
    """

    fabric: Any
    module: Any
    net: Network
    optimizer: Any
    recipe: Recipe
    train: Train
    draws: torch.Generator
    feed: Feed
    objective: Objective
    frozen: Frozen
    averages: Averages | None = None
    on_step: OnStep | None = None
    file: Path | None = None
    _counts: _Counts = field(init=False, repr=False)

    @property
    def steps(self) -> int:
        """Steps in an epoch; the last, incomplete batch is left out."""
        return len(self.train) // self.recipe.batch_size

    @property
    def total(self) -> int:
        """Steps in all epochs."""
        return self.steps * self.recipe.epochs

    def epoch(self, number: int) -> dict[str, float]:
        """Train on every picture once; returns the record of the epoch.

        Raises:
            InputError: if the network does not run, or the objective refuses what it gives.
            TrainingDiverged: if a loss or a weight is not finite.
        """
        started, first = time.perf_counter(), number * self.steps
        self.module.train()  # Fabric's wrapper, too
        self.frozen.train(self.net.module)
        self._counts = _Counts()
        try:
            losses = descend(
                self._batches(first),
                self._loss,
                self.optimizer,
                backward=self.fabric.backward,
                rate=lambda i: self.recipe.lr * self.recipe.factor(first + i, self.steps),
                on_step=lambda i: self._stepped(first + i + 1),
                joined=(lambda losses: ranks.mean(self.fabric, losses)) if ranks.size() > 1 else None,
            )
        except NotFinite as error:
            raise TrainingDiverged(self._advice(f"the loss is {error.loss}", first + error.step)) from error
        self._check_weights(first + self.steps - 1)
        mean = sum(losses.tolist()) / self.steps
        return {"loss": mean, **self._counts.accuracy(self.fabric), "seconds": time.perf_counter() - started}

    def _batches(self, first: int) -> Iterator[tuple[int, Tensor, Any]]:
        """The number of each step, from 0 in the first epoch, with its pictures and what is learned of them."""
        size, settled = self.recipe.batch_size, int(self.recipe.settled * self.total)
        order = torch.randperm(len(self.train), generator=self.draws)[: self.steps * size]
        batches = self.objective.batches(self.train, order, self.draws, self.feed)
        for step, (images, labels) in enumerate(batches, first):
            if step == settled or (step == first and step > settled):
                _settle(self.net.module)
            there = self.net.preprocessing.normalise(images.to(self.feed.device, non_blocking=True))
            yield step, self._laid_out(there), labels.to(self.feed.device)

    def _laid_out(self, images: Tensor) -> Tensor:
        return images if self.recipe.channels_last else images.contiguous()

    def _loss(self, batch: tuple[int, Tensor, Any]) -> Tensor:
        step, images, labels = batch
        output = self._output(images)
        if step == 0:
            self.objective.check(output, self.train)
        loss = self.objective.loss(output, labels)
        self._counts.add(loss.right, loss.counted)
        return loss.value

    def _output(self, images: Tensor) -> Any:
        try:
            with running(self.net, images.shape[1:]):
                return self.module(images)
        except InputError as error:
            cause = error.__cause__
            if self.recipe.compile and type(cause).__module__.startswith(("torch._dynamo", "torch._inductor")):
                why = " ".join(str(cause).split())[:300]
                raise InputError(
                    f"compile=True: PyTorch cannot compile the network here ({why}); install a C++ compiler, or leave "
                    "compile out."
                ) from error
            if len(images) > 1 or not isinstance(cause, ValueError):
                raise
            name = lone_norm(self.net.module, images)
            raise InputError(
                f"batch_size=1: {name} sees one value a channel (one picture, maps of 1 x 1), of which batch norm can "
                "learn nothing; give a batch_size of 2 or more."
            ) from error

    def _stepped(self, done: int) -> None:
        if self.averages:
            self.averages.update(self.net.module, done)
        if self.on_step:
            self.on_step(done, self.total)

    def _check_weights(self, step: int) -> None:
        # The epoch's last step may break them after its loss was computed; such a checkpoint would be useless.
        if not bool(torch.stack([p.isfinite().all() for p in self.net.module.parameters()]).all()):
            raise TrainingDiverged(self._advice("weights are not finite", step))

    def _advice(self, what: str, step: int) -> str:
        there = self.file and self.file.exists()
        kept = f"The last good checkpoint is {self.file}." if there else "No epoch was complete."
        return (
            f"{what} at step {step + 1} (epoch {step // self.steps + 1}) with lr={self.recipe.lr}. {kept} "
            "Give a lower lr or a longer warmup, or check the pictures for values that are not finite."
        )


def _settle(module: nn.Module) -> None:
    """From here on batch norm uses its running statistics."""
    for m in module.modules():
        if isinstance(m, BATCH_NORM):
            m.eval()


@dataclass
class _Counts:
    """Right predictions and all of them, on the device as long as the epoch runs."""

    right: Tensor | int = 0
    counted: Tensor | int = 0
    known: bool = False  # whether anything is right or wrong

    def add(self, right: Tensor | int, counted: Tensor | int | None) -> None:
        self.known = counted is not None
        self.right = self.right + right
        self.counted = self.counted + (0 if counted is None else counted)

    def accuracy(self, fabric: Any) -> dict[str, float]:
        if not self.known:
            return {}
        right, counted = int(self.right), int(self.counted)
        if ranks.size() > 1:
            right, counted = fabric.all_reduce(torch.tensor([right, counted]), reduce_op="sum").tolist()
        return {"train_accuracy": right / max(counted, 1)}
