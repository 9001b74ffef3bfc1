"""A training in a folder of its own: from its start, or on from its checkpoint, to its weights and its history."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from whatwhere.data import Data
from whatwhere.data.boxes import Boxes
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.files import read_json, refuse_foreign, write_json
from whatwhere.fingerprints import fingerprint
from whatwhere.lab.claims import alone
from whatwhere.lab.progress import Meter
from whatwhere.models.opened import CONFIG
from whatwhere.models.saved import save, unsavable
from whatwhere.models.weights import save_weights
from whatwhere.network import Network
from whatwhere.training.evaluate import Evaluation, evaluate
from whatwhere.training.evaluate_boxes import BoxEvaluation
from whatwhere.training.evaluate_scenes import SceneEvaluation
from whatwhere.training.fit import fit
from whatwhere.training.ranks import rank, size
from whatwhere.training.recipes import Recipe

WEIGHTS, CHECKPOINT, START, HISTORY = "weights.safetensors", "checkpoint.pt", "start.json", "history.json"
CLAIM = "training.claim"  # there while a process trains
TRAIN = "whatwhere train"  # who writes


def trained_in(
    folder: Path,
    net: Network,
    data: Data | Scenes | Boxes,
    recipe: Recipe,
    about: Mapping[str, Any],
    *,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    overwrite: bool = False,
) -> Evaluation | SceneEvaluation | BoxEvaluation:
    """Train a network in place, write its weights and history, and evaluate it on the test split.

    A second call at once for the same folder waits for the first, and finds its training finished.

    Args:
        folder: gets checkpoint, weights and history, and how to make the network again where a file can say that, so
            that --model takes the folder; a training that was begun there goes on.
        net: before its training.
        data: with a train and a test split.
        recipe: how to train.
        about: recorded in the history.
        seed: of the order of the pictures and their augmentation.
        device: as `fit`.
        devices: as `fit`; of several processes that torchrun started, the first one writes.
        overwrite: replace weights and a history that no training of ours wrote there.

    Raises:
        InputError: if a training with other initial weights was begun in the folder, or it holds files of others; as
            `fit`.
    """
    # Of processes that torchrun started the first one claims the folder, and writes.
    with alone(folder / CLAIM, f"training in {folder}") if rank() == 0 else nullcontext():
        how = {"seed": seed, "device": device, "devices": devices, "overwrite": overwrite}
        return _trained(folder, net, data, recipe, about, **how)  # type: ignore[arg-type]


def _trained(
    folder: Path,
    net: Network,
    data: Data | Scenes | Boxes,
    recipe: Recipe,
    about: Mapping[str, Any],
    *,
    seed: int,
    device: str,
    devices: int,
    overwrite: bool,
) -> Evaluation | SceneEvaluation | BoxEvaluation:
    first = rank() == 0
    if first:
        _check_start(folder, net, overwrite)
    # A segmentation network or a detector is evaluated once, at the end: each evaluation takes as long as an epoch.
    test = data.test if isinstance(data, Data) else None
    steps = recipe.epochs * (len(data.train) // recipe.batch_size)
    with Meter(f"training {net.name}", steps, quiet=not first) as meter:
        history = fit(
            net,
            data.train,
            recipe,
            seed=seed,
            device=device,
            file=folder / CHECKPOINT,
            test=test,
            on_step=lambda done, total: meter.update(done),
            devices=devices,
        )
    tested = evaluate(net, data)
    if not first:
        return tested
    save_weights(net.module, folder / WEIGHTS)
    settings = {**about, "seed": seed, "recipe": recipe.to_dict(), "preprocessing": net.preprocessing.to_dict()}
    settings |= {"devices": count} if (count := max(devices, size())) > 1 else {}
    write_json(folder / HISTORY, {**settings, "epochs": history.epochs, **tested.to_dict()})
    if not unsavable(net):
        save(net, folder, classes=data.classes, overwrite=True, by=TRAIN)
    return tested


def _check_start(folder: Path, net: Network, overwrite: bool) -> None:
    """Record with which weights a training began; it resumes from its checkpoint, whatever they are then.

    Raises:
        InputError: if a training with other weights began there, or files there are not of a training.
    """
    file, start = folder / START, {"network": net.name, "weights": fingerprint(net.module)}
    written = [folder / name for name in (WEIGHTS, HISTORY, START, CONFIG)]
    seen = read_json(file) if file.exists() else None
    begun = isinstance(seen, dict) and seen.keys() == start.keys()
    refuse_foreign(folder, written, ours=begun or (folder / CHECKPOINT).exists(), overwrite=overwrite)
    kept = [f.name for f in (folder / CHECKPOINT, folder / WEIGHTS) if f.exists()]
    if begun and kept and seen != start:
        raise InputError(
            f"out={str(folder)!r} holds a training ({kept[0]}) that began with other weights ({seen} there, {start} "
            "now): another model, width, seed or weights; choose another folder, or the same settings."
        )
    write_json(file, start)
