"""The study: a network trained with each method and seed; accuracies, paired differences, and what they cost."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from whatwhere.data import load_data
from whatwhere.errors import InputError
from whatwhere.recalibration.insert import maker
from whatwhere.report.page import Report, Table
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.studies.packed import unpack
from whatwhere.studies.recalibration.cell import NONE, Bench, build
from whatwhere.studies.recalibration.wider import WIDER, check_wider, widened
from whatwhere.studies.rows import ONE_SEED, SEEDS, Row, RowsResult, accuracy, checked_seeds, difference
from whatwhere.training.recipes import RECIPES, Recipe

# Names for the settings that the comparison asks for; any other name goes to `recalibrate` as it is.
NAMED: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ms_sar-per-cell": ("ms_sar", {"weights": "per-cell"}),
    "ms_sar-bilinear": ("ms_sar", {"upsample": "bilinear"}),
    "ms_sar-1-2": ("ms_sar", {"scales": (1, 2)}),
    "ms_sar-2": ("ms_sar", {"scales": (2,)}),
    "ms_sar-4": ("ms_sar", {"scales": (4,)}),
    "ms_sar-symmetric": ("ms_sar", {"symmetric": True}),
    "ms_sar-ratio-8": ("ms_sar", {"ratio": 8}),
    "ms_sar-ratio-32": ("ms_sar", {"ratio": 32}),
    "se-ratio-8": ("se", {"ratio": 8}),
    "se-ratio-32": ("se", {"ratio": 32}),
    "ms_sar-identity": ("ms_sar", {"identity_init": True}),
    "se-identity": ("se", {"identity_init": True}),
}
MEASURE, GAIN = "accuracy", "above none"


@dataclass(frozen=True)
class RecalibrationResult(RowsResult):
    """Accuracy of each method over seeds, its paired difference from the plain network, and its cost."""

    kind: ClassVar[str] = "recalibration"
    plotted: ClassVar[tuple[str, ...]] = (MEASURE,)
    cost: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def chance(self) -> float | None:
        """Not shown: the differences are small."""
        return None

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return verdict(self.rows)

    @property
    def title(self) -> str:
        """Above the figure."""
        return f"{self.settings['model']} on {self.data.get('name', 'data')}"

    def table(self) -> list[dict[str, Any]]:
        """One line for each method, in per cent, with its extra parameters and operations."""
        return [{**line, **{k: f"{v:+.2f}" for k, v in self.cost[line["row"]].items()}} for line in super().table()]

    def report(self) -> Report:
        """The page's content."""
        return Report(
            title=f"Does recalibration help {self.settings['model']}?",
            lead="The same network, trained alike with each method inside; differences are paired by seed and picture.",
            figures={"recalibration": self.plot()},
            tables=[Table("Accuracy, difference from the plain network, and cost", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


def recalibration_study(
    model: str,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    methods: Sequence[str] = (NONE, "se", "ms_sar"),
    seeds: Iterable[int] = (0, 1, 2),
    recipe: Recipe | None = None,
    width: float = 1.0,
    weights: str | os.PathLike[str] | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
    quiet: bool = False,
) -> RecalibrationResult:
    """Train a network with each method and seed, and compare them with the plain one.

    Args:
        model: by name.
        data: by name or folder; the train split is trained on, the test split tested on.
        out: folder for cells and result; an interrupted call goes on there. Methods and seeds may be added later: the
            result is of all that is finished there.
        methods: `none`; `wider` (the plain network, as wide as gives it the parameters of `ms_sar`); `se`, `ms_sar`; a
            variant of them, `ms_sar-` with `per-cell`, `bilinear`, `symmetric`, `1-2`, `2`, `4`, `ratio-8`, `ratio-32`
            or `identity` (its gates are 1 before training), `se-` with `ratio-8`, `ratio-32` or `identity`; or one of
            timm's attention modules.
        seeds: of initial weights, order and augmentation; the same for every method.
        recipe: how to train; None is `fast`.
        width: width factor of cifar/ networks.
        weights: folder for checkpoints and trained weights; None is `out`.
        workers: processes that run cells side by side; 0 runs them in this one.
        device: Fabric's accelerator.
        run: False only folds the cells that are there.
        quiet: print no progress.

    Raises:
        InputError: for an unknown method or model, or a folder that holds another study.
    """
    started, how = time.perf_counter(), recipe or RECIPES["fast"]
    names, given = checked_methods(methods, model), checked_seeds(seeds)
    loaded = load_data(os.fspath(data))
    options = {"classes": len(loaded.classes), "width": width}
    shared = {"model": model, "options": options, "recipe": how.to_dict()}
    fingerprints = {"train": loaded.train.fingerprint, "test": loaded.test.fingerprint}
    store = Store(Path(out), {"study": "recalibration", **shared, "data": fingerprints})
    cells = {(name, seed): cell_of(name, seed, shared, fingerprints) for seed in given for name in names}
    if run:
        for name in (n for n in names if n not in (NONE, WIDER)):
            build(cells[name, given[0]].config)  # what cannot be built is told before anything is trained
        bench = Bench(os.fspath(data), Path(weights or out), device)
        run_cells(list(cells.values()), bench, store, workers=workers, quiet=quiet)
    there = store.configs()  # of earlier calls too
    names = tuple(dict.fromkeys([*names, *sorted({c["name"] for c in there})]))
    given = tuple(dict.fromkeys([*given, *sorted({c["seed"] for c in there})]))
    cells = {(name, seed): cell_of(name, seed, shared, fingerprints) for seed in given for name in names}
    found = {key: store.load(cell) for key, cell in cells.items() if store.has(cell)}
    result = _folded(names, given, found, shared, loaded.describe(), started)
    result.save(out)
    return result


def checked_methods(methods: Sequence[str], model: str) -> tuple[str, ...]:
    """Each once, the plain network first.

    Raises:
        InputError: for an unknown method, or `wider` of a network that has one width only.
    """
    names = tuple(dict.fromkeys([NONE, *methods]))  # the plain network is what everything is compared with
    if WIDER in names:
        check_wider(model)
    for name in (n for n in names if n not in (NONE, WIDER)):
        method, settings = NAMED.get(name, (name, {}))
        maker(method, settings)(64)
    return names


def cell_of(name: str, seed: int, shared: Mapping[str, Any], data: Mapping[str, str]) -> Cell:
    """The cell that trains one network; `shared` is model, options and recipe, `data` the fingerprints."""
    method, settings = NAMED.get(name, (name, {}))
    if name == WIDER:
        shared, method = widened(shared), NONE
    config = {**shared, "do": "train", "name": name, "method": method, "settings": settings, "seed": seed, "data": data}
    return Cell(config, f"{name}, seed {seed}")


def _folded(
    names: Sequence[str], seeds: Sequence[int], found: Mapping[tuple[str, int], Mapping[str, Any]],
    shared: Mapping[str, Any], data: Mapping[str, Any], started: float,
) -> RecalibrationResult:  # fmt: skip
    complete = [s for s in seeds if (NONE, s) in found]
    rows = [_row(name, [s for s in complete if (name, s) in found], found) for name in names]
    there = tuple(r for r in rows if r is not None)
    if not there:
        raise InputError("no cell of the plain network is finished; run the study without run=False.")
    base = found[NONE, complete[0]]
    missing = [f"{n}, seed {s}" for n in names for s in seeds if (n, s) not in found]
    notes = [SEEDS if len(complete) > 1 else ONE_SEED, "Differences are paired: the same seed, the same pictures."]
    if WIDER in names:
        notes.append(f"{WIDER}: the plain network at width {widened(shared)['options']['width']:.4g}.")
    return RecalibrationResult(
        there,
        data=data,
        settings={**shared, "seeds": list(seeds), "methods": list(names)},
        notes=(*notes, *([f"Not finished: {'; '.join(missing)}."] if missing else [])),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
        cost={r.name: _cost(_of(r.name, complete, found), base) for r in there},
    )  # fmt: skip


def _of(name: str, seeds: Sequence[int], found: Mapping[tuple[str, int], Mapping[str, Any]]) -> Mapping[str, Any]:
    return next(found[name, s] for s in seeds if (name, s) in found)


def _cost(cell: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float]:
    return {f"{k} %": 100 * (cell[k] / base[k] - 1) for k in ("parameters", "flops")}


def _row(name: str, seeds: Sequence[int], found: Mapping[tuple[str, int], Mapping[str, Any]]) -> Row | None:
    if not seeds:
        return None
    hits = [unpack(found[name, s]["hits"]).astype(bool) for s in seeds]
    plain = [unpack(found[NONE, s]["hits"]).astype(bool) for s in seeds]
    n = len(hits[0])
    measured = {MEASURE: accuracy([int(h.sum()) for h in hits], n)}
    values = {MEASURE: tuple(float(h.mean()) for h in hits)}
    if name != NONE:
        better = [int(np.sum(h & ~p)) for h, p in zip(hits, plain, strict=True)]
        worse = [int(np.sum(~h & p)) for h, p in zip(hits, plain, strict=True)]
        measured[GAIN] = difference(better, worse, n)
        values[GAIN] = tuple((b - w) / n for b, w in zip(better, worse, strict=True))
    return Row(name, name, measured, values)


def verdict(rows: Iterable[Row]) -> str:
    """Of each method: helps, hurts, or cannot be told."""
    texts = []
    for row in rows:
        if GAIN in row.measured:
            e = row.measured[GAIN]
            word = "helps" if e.low > 0 else "hurts" if e.high < 0 else "cannot be told from the plain network"
            texts.append(f"{row.label} {word} ({100 * e.mean:+.2f} points [{100 * e.low:+.2f}, {100 * e.high:+.2f}])")
    return "; ".join(texts) + ("." if texts else "")
