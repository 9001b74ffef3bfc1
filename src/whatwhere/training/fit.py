"""The training loop, on Lightning Fabric: it resumes exactly and stops if the loss is not finite."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whatwhere.data import Split
from whatwhere.data.boxes import BoxSplit
from whatwhere.data.scenes import SceneSplit
from whatwhere.devices import check_device
from whatwhere.errors import InputError
from whatwhere.fingerprints import architecture
from whatwhere.frozen import NOTHING, Frozen
from whatwhere.network import Network, check_finite
from whatwhere.training import checkpoint, draws, ranks
from whatwhere.training.averages import Averages
from whatwhere.training.evaluate import check_names, evaluate
from whatwhere.training.evaluate_scenes import evaluate_scenes
from whatwhere.training.feed import Feed
from whatwhere.training.loop import Loop, OnStep
from whatwhere.training.objectives import Objective, Train, objective_of
from whatwhere.training.recipes import BoxRecipe, Recipe
from whatwhere.training.tracking import Epochs, logged

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
    devices: int = 1,
) -> History:
    """Train a network in place.

    On the CPU the same seed gives bit-identical weights, also after an interruption. On a GPU it gives the same draws
    (order, augmentation, dropout), also after an interruption, but kernels there may round their sums otherwise each
    time; with `torch.use_deterministic_algorithms` they do not.

    Args:
        net: the network; its module is trained, and moved to the device. A plain module gets pictures as by `evaluate`.
        train: labelled pictures, scenes with label maps, or pictures with boxes.
        recipe: how to train; a `SceneRecipe` for scenes, a `BoxRecipe` for a detector.
        seed: of the order of the pictures, of their augmentation, and of dropout.
        device: `auto`, `cpu`, `cuda` or `mps`.
        file: checkpoint, written after every epoch. An existing one is resumed and replaces the network's weights;
            one of another recipe, seed, pictures, preprocessing, layers or frozen parts is refused.
        test: pictures to evaluate on after every epoch.
        generators: further random generators (of an intervention), saved and restored with the checkpoint.
        on_step: called after every step with (steps done, total steps).
        frozen: parts of the network that stay as they are.
        objective: the task, where it is not that of the recipe.
        until: called after every epoch with the network, for values that join the epoch's record; the training ends
            where they say `enough`.
        devices: GPUs, or processes on a CPU, that share every batch; started by torchrun, on several machines say, the
            processes are those. The numbers are those of one device but for rounding, for batch norm, which normalises
            each share by itself and keeps the first process's running statistics, as is usual, and for dropout and
            other layers that draw (drop path, say): each process has draws of its own, which its number and the seed
            decide. Not of scenes or boxes.

    Raises:
        InputError: if the pictures have no labels or are fewer than a batch, the network has too few scores, does not
            run on the pictures or has weights that are not finite, the device is not available, or the checkpoint
            belongs to another training.
        TrainingDiverged: if the loss or a weight is not finite; the message names the step and the last checkpoint.
    """
    if isinstance(train, str | os.PathLike):
        raise InputError(f"train={os.fspath(train)!r}: give pictures: ww.load_data({os.fspath(train)!r}).train.")
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
    if isinstance(train, Split):
        check_names(net, train)
    task = objective or objective_of(recipe)
    if devices != 1 or ranks.size() > 1:
        _check_shared(devices, recipe, task)
    if devices > 1 and not ranks.launched():
        sent: dict[str, Any] = {"train": train, "recipe": recipe, "seed": seed, "device": device, "file": file}
        sent |= {"frozen": frozen, "objective": objective, "devices": devices}
        with ranks.together(devices, fit, net, sent):
            return fit(net, **sent, test=test, generators=generators, on_step=on_step, until=until)
    with draws.seeded(seed), _kernels(recipe), frozen.held(net.module), logged() as log:
        with _quietly():
            loop = _loop(net, train, recipe, seed, device, frozen, task, file, on_step)
        with draws.seeded_too(draws.of_device(loop.fabric.device), seed):
            progress = _begun(loop, seed, generators or {})
            while progress.epoch < recipe.epochs and not _ended(progress):
                _epoch(loop, progress, seed, lambda: _looked(net, test, until), log)
        if loop.averages:
            loop.averages.put_into(net.module)
        ranks.same_buffers(loop.fabric, net.module)
    net.module.eval()
    return History(progress.history)


def _loop(
    net: Network,
    train: Train,
    recipe: Recipe,
    seed: int,
    device: str,
    frozen: Frozen,
    task: Objective,
    file: Path | None,
    on_step: OnStep | None,
) -> Loop:
    """A training before its first step, on its device."""
    fabric = _fabric(device, recipe)
    if recipe.channels_last:
        net.module.to(memory_format=torch.channels_last)
    module, optimizer = fabric.setup(_compiled(net.module, recipe, fabric), _optimizer(net.module, recipe))
    return Loop(
        fabric,
        module,
        net,
        optimizer,
        recipe,
        train,
        torch.Generator().manual_seed(seed),
        Feed(net.preprocessing, fabric.device, ranks.rank(), ranks.size()),
        task,
        frozen,
        Averages(net.module, recipe.ema) if recipe.ema else None,
        on_step if ranks.rank() == 0 else None,
        file,
    )


def _begun(loop: Loop, seed: int, generators: Mapping[str, torch.Generator]) -> checkpoint.Progress:
    """Where a training stands: at its start, or where its checkpoint was written."""
    state, module = {"pictures": loop.draws, **generators}, loop.net.module
    weights = loop.averages.weights if loop.averages else {}
    layers = draws.of_device(loop.fabric.device)
    progress = checkpoint.Progress(module, loop.optimizer, state, 0, [], weights, layers)
    if loop.file and loop.file.exists():
        checkpoint.load(loop.file, progress, loop.recipe.to_dict(), **_about(loop, seed))
    ranks.check_same(loop.fabric, progress.epoch, f"{loop.file}: complete epochs")
    return progress


def _about(loop: Loop, seed: int) -> dict[str, Any]:
    """What must be the same for another call to go on from a checkpoint."""
    prepared = {k: v for k, v in loop.net.preprocessing.to_dict().items() if k != "source"}  # that is for the record
    return {
        "seed": seed,
        "pictures": loop.train.fingerprint,
        "contents": getattr(loop.train, "contents", ""),
        "layers": architecture(loop.net.module),
        "preprocessing": prepared,
        "frozen": loop.frozen.to_dict(),
    }


def _epoch(
    loop: Loop,
    progress: checkpoint.Progress,
    seed: int,
    look: Callable[[], dict[str, float]],
    log: Epochs,
) -> None:
    """Train one epoch, look at the network, and keep both."""
    if ranks.rank() > 0:  # dropout of its own, the same again after an interruption
        torch.manual_seed(seed + 1_000_003 * ranks.rank() + progress.epoch)
    ranks.from_first(loop.fabric, lambda: log.open(progress.epoch))
    record = loop.epoch(progress.epoch)
    with loop.averages.shown(loop.net.module) if loop.averages else nullcontext():
        record |= ranks.from_first(loop.fabric, look)
    progress.history.append(record)
    progress.epoch += 1
    ranks.from_first(loop.fabric, lambda: _kept(loop, progress, seed, log))


def _kept(loop: Loop, progress: checkpoint.Progress, seed: int, log: Epochs) -> None:
    """Keep an epoch: in the log first, since an epoch that is in the checkpoint is never logged again."""
    log(progress.history)
    if loop.file:
        checkpoint.save(loop.file, progress, loop.recipe.to_dict(), **_about(loop, seed))


def _check_shared(devices: int, recipe: Recipe, task: Objective) -> None:
    """Refuse what several processes cannot train, or not to the numbers of one."""
    if not isinstance(devices, int) or devices < 1:
        raise InputError(f"devices={devices!r}: give a whole number of at least 1.")
    size = max(devices, ranks.size())
    if not getattr(task, "shares", False):
        raise InputError(
            f"devices={size}: a loss of pixels or boxes is a mean over all that a batch holds, which differs between "
            "its shares; scenes, detectors and tasks of their own are trained on one device."
        )
    if recipe.batch_size % size:
        raise InputError(f"batch_size={recipe.batch_size} cannot be shared equally by {size} devices; give a multiple.")


def _looked(net: Network, test: Split | SceneSplit | None, until: Until | None) -> dict[str, float]:
    """What is seen of the network after an epoch."""
    tested = {} if test is None else {"test_accuracy": _tested(net, test)}
    return {**tested, **(until(net) if until else {})}


def _compiled(module: nn.Module, recipe: Recipe, fabric: Any) -> Any:
    """The module, or one that shares its weights and runs what PyTorch compiled of it."""
    if not recipe.compile:
        return module
    return torch.compile(module, mode="reduce-overhead" if fabric.device.type == "cuda" else None)


@contextmanager
def _kernels(recipe: Recipe) -> Iterator[None]:
    """TF32 in matrix products if the recipe says so, and on a GPU convolutions of whichever algorithm proves fastest.

    The caller's settings are restored afterwards. Where they ask for deterministic algorithms nothing is tried out, nor
    for detectors, whose pictures differ in size: each new one would be tried again.
    """
    products, tried = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    fixed = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
    if recipe.precision == "tf32":
        torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = tried or not (fixed or isinstance(recipe, BoxRecipe))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.benchmark = tried


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what Fabric says of each network's precision, device and cluster, which the caller chose."""
    import lightning_fabric  # sets the level of its log as it is imported

    log = logging.getLogger(lightning_fabric.__name__)
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The `srun` command is available")
            yield
    finally:
        log.setLevel(before)


def _ended(progress: checkpoint.Progress) -> bool:
    """Whether the last epoch was enough, also one before an interruption."""
    return bool(progress.history and progress.history[-1].get(ENOUGH))


def _tested(net: Network, test: Split | SceneSplit) -> float:
    return evaluate_scenes(net, test).accuracy if isinstance(test, SceneSplit) else evaluate(net, test).accuracy


def _fabric(device: str, recipe: Recipe) -> Any:
    from lightning_fabric import Fabric  # takes seconds to import, and evaluating does not need it

    check_device(device)
    kind, _, index = str(device).partition(":")
    try:
        precision = "32-true" if recipe.precision == "tf32" else recipe.precision
        how = {"devices": [int(index)] if index else 1, "precision": precision, **ranks.layout()}
        fabric = Fabric(accelerator=kind, **how)
        if ranks.size() > 1:
            fabric.launch()
        return fabric
    except (ValueError, RuntimeError) as error:  # hardware that does not do as it says
        raise InputError(f"device={device!r} cannot be used ({error}); give 'auto' or 'cpu'.") from error


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    how: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": recipe.fused or None}
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(module.parameters(), **how)
    return torch.optim.SGD(module.parameters(), momentum=recipe.momentum, nesterov=recipe.nesterov, **how)
