"""The study: every kind of bottleneck at every site, fine-tuned alike and measured on the same pictures."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whatwhere.bottleneck.insert import bottleneck
from whatwhere.data.concept_spec import concepts_of, settled, usual_concepts
from whatwhere.data.concepts import copies_of_classes
from whatwhere.data.load_scenes import load_scenes
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.network import Network, as_module
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells
from whatwhere.runs.provenance import architecture, command, hardware, versions
from whatwhere.studies.bottleneck.cell import Bench
from whatwhere.studies.bottleneck.features import weights_fingerprint
from whatwhere.studies.bottleneck.fold import folded
from whatwhere.studies.bottleneck.kinds import CEILING, KINDS, checked_kinds, checked_width
from whatwhere.studies.bottleneck.result import BottleneckResult
from whatwhere.studies.rows import checked_seeds
from whatwhere.training.recipes import SceneRecipe

TUNING = SceneRecipe(
    epochs=10, optimizer="adamw", lr=1e-3, weight_decay=1e-2, batch_size=8, crop=None, auxiliary=0.0, flip=False
)
USUAL = tuple(k for k in KINDS if k != "intact")


@dataclass(frozen=True)
class Setting:
    """A study of one network: what its cells share, and where they are.

    Attributes:
        bench: what runs a cell.
        store: the finished cells.
        shared: what every cell's configuration holds.
    """

    bench: Bench
    store: Store
    shared: Mapping[str, Any]

    def cell(self, site: str, kind: str, seed: int) -> Cell:
        """A cell by what tells it from others; kinds without draws have one seed only."""
        fixed = kind in ("intact", CEILING)
        config = {**self.shared, "site": site, "kind": kind, "seed": 0 if fixed else seed}
        return Cell(config, f"{kind} at {site}" + ("" if fixed else f", seed {seed}"))

    def trained(self, kind: str) -> list[str]:
        """Sites at which a cell of a kind is finished."""
        configs = [read_json(file)["config"] for file in sorted((self.store.folder / "cells").glob("*.json"))]
        return sorted({c["site"] for c in configs if c["kind"] == kind})


def bottleneck_study(
    net: nn.Module | Network,
    scenes: Scenes | str | os.PathLike[str],
    *,
    sites: Sequence[str],
    out: str | os.PathLike[str],
    concepts: Mapping[str, Any] | None = None,
    kinds: Sequence[str] = USUAL,
    seeds: Iterable[int] = (0,),
    recipe: SceneRecipe | None = None,
    group: int = 4,
    weights: str | os.PathLike[str] | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
    quiet: bool = False,
) -> BottleneckResult:
    """Put bottlenecks of all kinds into a trained segmentation network, and measure what they cost and give.

    >>> result = ww.bottleneck_study(net, "camvid", sites=["backbone.layer4"], concepts=spec, out="runs/say")
    >>> print(result.conclusion)

    Args:
        net: the trained network; it is left alone.
        scenes: with the splits train (heads and fine-tuning), validation (thresholds) and test; all of one size.
        sites: modules' names; a bottleneck goes behind each in turn.
        out: folder for cells and result; an interrupted call goes on there, sites, kinds and seeds may be added.
        concepts: see `whatwhere.data.concept_spec.concepts_of`; None: what the scenes' label maps and pixels offer.
        kinds: of `intact`, `tuned`, `ssb`, `ssb-binary`, `usb`, `learned`, `pca`, `random`, `truth`.
        seeds: of the fine-tuning and of random directions; the network itself is one.
        recipe: of the fine-tuning; None is ten epochs of AdamW.
        group: maps in a softmax group of `usb`.
        weights: folder for features, checkpoints and networks; None is `out`.
        workers: processes that run cells side by side; 0 runs them in this one.
        device: Fabric's accelerator.
        run: False only folds the cells that are there.
        quiet: print no progress.

    Raises:
        InputError: for unknown kinds, sites that no bottleneck fits behind, concepts that copy a class, pictures in too
            few groups for an interval, or a folder that holds another study.
    """
    started = time.perf_counter()
    how = recipe or TUNING
    setting = prepared(net, scenes, out, concepts=concepts, recipe=how, group=group, weights=weights, device=device)
    given, names, sites = checked_seeds(seeds), checked_kinds(kinds), _checked_sites(setting, sites)
    wanted = [(sites[0], CEILING, 0)]
    wanted += [(site, kind, seed) for seed in given for site in sites for kind in names]
    cells = {key: setting.cell(*key) for key in wanted}
    if run:
        once = {c.key: c for c in cells.values()}
        setting.bench.prepare(setting.shared, sites)
        run_cells(list(once.values()), setting.bench, setting.store, workers=workers, quiet=quiet)
    found = {key: setting.store.load(c) for key, c in cells.items() if setting.store.has(c)}
    provenance = {
        "command": command(), "versions": versions(), "hardware": hardware(),
        "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip
    about = {**setting.shared, "sites": list(sites), "kinds": list(names), "seeds": list(given)}
    result = folded(found, setting.bench.scenes, about, provenance)
    result.save(out)
    return result


def prepared(
    net: nn.Module | Network, scenes: Scenes | str | os.PathLike[str], out: str | os.PathLike[str], *,
    concepts: Mapping[str, Any] | None, recipe: SceneRecipe, group: int = 4,
    weights: str | os.PathLike[str] | None = None, device: str = "auto",
) -> Setting:  # fmt: skip
    """Check what a study is made of, and open its folder."""
    net = net if isinstance(net, Network) else Network(as_module(net))
    loaded = _apart(load_scenes(scenes))
    _check_settings(loaded, recipe, group)
    spec = settled(concepts if concepts is not None else usual_concepts(loaded), loaded)
    source = concepts_of(spec, loaded)
    copies = copies_of_classes(source, loaded.classes)
    if copies:
        text = ", ".join(f"{concept!r} is {of!r}" for concept, of in copies.items())
        raise InputError(f"concepts: {text} of the task, and a network that says its classes explains nothing.")
    shared = {
        "network": {"name": net.name, "weights": weights_fingerprint(net.module)},
        "preprocessing": net.preprocessing.to_dict(), "data": loaded.describe()["fingerprints"], "concepts": spec,
        "recipe": recipe.to_dict(), "group": group,
    }  # fmt: skip
    store = Store(Path(out), {"study": "bottleneck", **shared, "layers": architecture(net.module)})
    return Setting(Bench(net, loaded, Path(weights or out), device), store, shared)


def reopened(
    net: nn.Module | Network, scenes: Scenes | str | os.PathLike[str], out: str | os.PathLike[str], *,
    weights: str | os.PathLike[str] | None = None, device: str = "auto",
) -> Setting:  # fmt: skip
    """A study that was begun in a folder, with the concepts, the recipe and the groups it has there.

    Raises:
        InputError: for a folder without a study of bottlenecks, or of another network or other scenes.
    """
    file = Path(out) / "study.json"
    plain = read_json(file) if file.exists() else None
    if not isinstance(plain, dict) or plain.get("study") != "bottleneck":
        raise InputError(f"out={str(out)!r} holds no study of bottlenecks; run `whatwhere bottleneck evaluate` first.")
    return prepared(
        net, scenes, out, concepts=plain["concepts"], recipe=SceneRecipe(**plain["recipe"]), group=plain["group"],
        weights=weights, device=device,
    )  # fmt: skip


def _checked_sites(setting: Setting, sites: Sequence[str]) -> tuple[str, ...]:
    """Sites, each once; refused where no bottleneck can be put, before anything runs."""
    if not sites:
        raise InputError("sites is empty; give at least one module's name, such as backbone.layer4.")
    net, scenes = setting.bench.net, setting.bench.scenes
    channels, height, width = scenes.train[0][0].shape
    names = concepts_of(setting.shared["concepts"], scenes).names
    for site in sites:
        made: Any = bottleneck(net.module, site, 1, input_size=(channels, height, width))
        checked_width(site, made.surgery.channels[0], len(names))
    return tuple(dict.fromkeys(sites))


def _apart(scenes: Scenes) -> Scenes:
    """Scenes of which no test picture sets a threshold: the groups of a lone held-out split are halved."""
    held = scenes.validation
    if scenes.test is not held:
        return scenes
    groups = held.groups.unique()
    first = torch.isin(held.groups, groups[: len(groups) // 2])
    if not first.any():
        raise InputError(f"scenes {scenes.name!r} have no test split, and {held.name!r} is one group; add test/.")
    parts = {"validation": held.only(first.nonzero()[:, 0]), "test": held.only((~first).nonzero()[:, 0])}
    return replace(scenes, name=f"{scenes.name} ({held.name} halved)", splits={"train": scenes.train, **parts})


def _check_settings(scenes: Scenes, recipe: SceneRecipe, group: int) -> None:
    if recipe.crop is not None:
        raise InputError(
            f"recipe: crop={recipe.crop}: what follows is tuned on stored features, whole; give crop=None."
        )
    if group < 2:
        raise InputError(f"group={group}: a softmax group has at least 2 maps.")
    for split in (scenes.validation, scenes.test):
        if len(split.groups.unique()) < 2:
            raise InputError(
                f"split {split.name!r} is one group of pictures that belong together; intervals and thresholds need at "
                "least two (some 20 to be of use)."
            )
