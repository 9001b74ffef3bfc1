"""The joint question: does a recalibrated network hold more position, and need more of it, than its plain twin?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate, over_seeds
from whatwhere.models.load import load_model
from whatwhere.network import Network
from whatwhere.position.features import RGB, taps_of
from whatwhere.position.targets import targets_of
from whatwhere.recalibration.insert import place_of
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.sites import Selection, Sites, list_sites
from whatwhere.studies.packed import checked_repeats
from whatwhere.studies.recalibration.cell import NONE, Bench, data_of
from whatwhere.studies.recalibration.joint_cell import INTACT, JointBench, Look
from whatwhere.studies.recalibration.joint_result import ACCURACY, FRESH, LOST, MEAN, SPC, JointResult, above, name_of
from whatwhere.studies.recalibration.study import RecalibrationResult, cell_of, recalibration_study
from whatwhere.studies.rows import Row, checked_counts
from whatwhere.training.recipes import Recipe

FOLDER = "joint"  # inside of the comparison's
MOST_SITES = 12  # that are chosen by themselves; more make an unreadable figure, and cost as much each
PAIRED = (SPC, FRESH, LOST)
ONE = "There is one seed: differences between networks have no interval, so nothing can be told of the methods."
NOTES = (
    "Intervals are Student's t over seeds. Those of single sites are not corrected for the number of sites; the "
    "conclusion rests on the mean over depths alone.",
    f"{FRESH}: the same networks before their training. Where they differ as much, architecture explains it.",
    "rgb: the raw input. Lost: the share of the intact network's accuracy that shuffling takes. Points would make any "
    "more accurate network look as if it needed more, since all of them fall to chance.",
)
Found = Mapping[tuple[str, int], Mapping[str, Any]]


def joint_study(
    model: str,
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    methods: Sequence[str] = (NONE, "se", "ms_sar"),
    seeds: Iterable[int] = (0, 1, 2),
    recipe: Recipe | None = None,
    width: float = 1.0,
    sites: Selection = None,
    targets: Sequence[str] = ("H", "V"),
    pictures: int = 500,
    test_pictures: int = 200,
    repeats: int = 5,
    limit: int = 2000,
    weights: str | os.PathLike[str] | None = None,
    workers: int = 0,
    device: str = "auto",
    run: bool = True,
    quiet: bool = False,
) -> JointResult:
    """Measure on every network of `recalibration_study` how much position it holds and how much *where* it needs.

    Networks that are not trained yet are trained first, as by `recalibration_study` with the same arguments.

    Args:
        model: by name.
        data: by name or folder.
        out: folder of the comparison; this result goes into its folder `joint`. Run again to go on.
        methods: as in `recalibration_study`.
        seeds: as there.
        recipe: as there.
        width: as there.
        sites: where to read position, and to shuffle from; a selection in the plain network. None is every residual
            block (of more than 12, evenly spaced ones), or every dense block.
        targets: of the read-out: H, V, G, HS, VS.
        pictures: to fit the read-outs to.
        test_pictures: to test the read-outs on.
        repeats: draws of every shuffle.
        limit: test pictures on which accuracy under shuffling is measured, at most.
        weights: folder of the trained weights; None is `out`.
        workers: processes that run cells side by side; 0 runs them in this one.
        device: Fabric's accelerator.
        run: False only folds the cells that are there.
        quiet: print no progress.

    Raises:
        InputError: as `recalibration_study`; for unknown targets or sites, or trained weights that are gone.
    """
    started = time.perf_counter()
    loaded = data_of(os.fspath(data))
    plain = load_model(model, classes=len(loaded.classes), width=width)
    # Checked before hours of training.
    look, shares = _look(plain, loaded, sites, targets, pictures, test_pictures, repeats, limit)
    compared = recalibration_study(
        model, data, out=out, methods=methods, seeds=seeds, recipe=recipe, width=width, weights=weights,
        workers=workers, device=device, run=run, quiet=quiet,
    )  # fmt: skip
    cells, store = _planned(compared, loaded, look, Path(out))
    if run:
        bench = Bench(os.fspath(data), Path(weights or out), device)
        _check_weights([c for c in cells.values() if not store.has(c)], bench, Path(out))
        run_cells(list(cells.values()), JointBench(bench), store, workers=workers, quiet=quiet)
    found = {key: store.load(cell) for key, cell in cells.items() if store.has(cell)}
    result = _folded(compared, look, shares, found, [c.label for c in cells.values() if not store.has(c)], started)
    result.save(store.folder)
    return result


def _look(
    plain: Network, data: Data, sites: Selection, targets: Sequence[str], pictures: int, test_pictures: int,
    repeats: int, limit: int,
) -> tuple[Look, dict[str, float]]:  # fmt: skip
    checked_counts(pictures=pictures, test_pictures=test_pictures, limit=limit)
    checked_repeats(repeats)
    names = tuple(t.name for t in targets_of(targets, range="0..1"))
    shape = data.test.shape(plain.preprocessing)
    table = list_sites(plain, input_size=shape)
    taps = taps_of(plain, _depths(plain, table) if sites is None else sites, input_size=shape)
    shares = {t.name: t.depth_share for t in taps}
    return Look(tuple(shares), names, pictures, test_pictures, repeats, limit), shares


def _depths(net: Network, table: Sites) -> list[str]:
    """The residual blocks, or what holds the dense layers; evenly spaced where there are many, the last among them."""
    there = {s.name for s in table}
    holders = {n.rpartition(".")[0] for n, m in net.module.named_modules() if place_of(m)}
    every = [s.name for s in table if s.kind == "block"] or [s.name for s in table if s.name in holders & there]
    if not every:
        raise InputError(f"model={net.name!r} has no residual and no dense block; choose another one.")
    chosen = np.linspace(0, len(every) - 1, min(MOST_SITES, len(every))).round().astype(int)
    return [every[i] for i in chosen]


def _planned(
    compared: RecalibrationResult, data: Data, look: Look, out: Path
) -> tuple[dict[tuple[str, int], Cell], Store]:
    shared = {name: compared.settings[name] for name in ("model", "options", "recipe")}
    fingerprints = {"train": data.train.fingerprint, "test": data.test.fingerprint}
    trained = {
        (name, seed): cell_of(name, seed, shared, fingerprints)
        for seed in compared.settings["seeds"] for name in compared.settings["methods"]
    }  # fmt: skip
    how = look.to_dict()
    cells = {
        key: Cell({"do": "joint", "network": cell.config, "look": how}, f"{cell.label}: hold and need")
        for key, cell in trained.items()
    }
    study = {"study": "recalibration, joint", **shared, "data": fingerprints, "look": how}
    return cells, Store(out / FOLDER, study)


def _check_weights(missing: Sequence[Cell], bench: Bench, out: Path) -> None:
    """A comparison whose weights were moved or deleted has its cells, so nothing would train them again."""
    for cell in missing:
        training = Cell(cell.config["network"])
        if not bench.weights(training).is_file():
            raise InputError(
                f"the weights {str(bench.weights(training))!r} of {cell.config['network']['name']}, seed "
                f"{cell.config['network']['seed']}, are gone. If they were moved, give weights=FOLDER "
                f"(--weights_folder FOLDER); else delete {str(out / 'cells' / f'{training.key}.json')!r}, and the same "
                "command trains that network again."
            )


# ---- folding


def _folded(
    compared: RecalibrationResult, look: Look, shares: Mapping[str, float], found: Found, missing: Sequence[str],
    started: float,
) -> JointResult:  # fmt: skip
    seeds = [s for s in compared.settings["seeds"] if (NONE, s) in found]
    if not seeds:
        raise InputError("no plain network is measured yet; run the study without run=False.")
    names = [n for n in compared.settings["methods"] if any((n, s) in found for s in seeds)]
    return JointResult(
        tuple(row for name in names for row in rows_of(name, seeds, found, look)),
        data=compared.data,
        settings={**compared.settings, "look": look.to_dict(), "depth_shares": dict(shares)},
        notes=(
            *([ONE] if len(seeds) == 1 else []), *NOTES, *([f"Not finished: {'; '.join(missing)}."] if missing else []),
        ),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip


def rows_of(name: str, seeds: Sequence[int], found: Found, look: Look) -> Iterator[Row]:
    """The rows of one method: the raw input, every site, the mean over depths, the intact network."""
    there = [s for s in seeds if (name, s) in found]
    first = found[name, there[0]]
    for site in (RGB, *look.sites, MEAN, INTACT):
        own = [measures(found[name, s], site, look) for s in there]
        values = {m: tuple(v[m] for v in own) for m in own[0]}
        if name != NONE and site != RGB:  # the input is the same
            twin = [measures(found[NONE, s], site, look) for s in there]
            values |= {above(m): _gaps(own, twin, m) for m in PAIRED if m in own[0]}
        measured = {m: _over(v, m, first["held" if m.startswith(SPC) else "kept"]["n"]) for m, v in values.items()}
        yield Row(name_of(name, site), name, measured, values)


def measures(cell: Mapping[str, Any], site: str, look: Look) -> dict[str, float]:
    """What one network shows at a site, or averaged over all of them."""
    if site == MEAN:
        each = [measures(cell, s, look) for s in look.sites]
        return {m: float(np.mean([e[m] for e in each])) for m in each[0]}
    accuracy, held, fresh = cell["kept"]["accuracy"], cell["held"]["spc"], cell["untrained"]["spc"]
    found = {f"{SPC} {t}": held[t][site] for t in look.targets if site in held[t]}
    if found:
        found = {SPC: float(np.mean(list(found.values()))), **found}
    if site in look.sites:
        found[FRESH] = float(np.mean([fresh[t][site] for t in look.targets]))
        # A network that is never right has nothing to lose.
        found[LOST] = 1 - accuracy[site] / accuracy[INTACT] if accuracy[INTACT] else 0.0
    return {**found, ACCURACY: accuracy[site]} if site in accuracy else found


def _gaps(own: Sequence[Mapping[str, float]], twin: Sequence[Mapping[str, float]], measure: str) -> tuple[float, ...]:
    return tuple(a[measure] - b[measure] for a, b in zip(own, twin, strict=True))


def _over(values: Sequence[float], measure: str, n: int) -> Estimate:
    """Over seeds; a single network says nothing of others, so its interval is the whole range."""
    most = 2.0 if measure.endswith(above("")) else 1.0
    low = 0.0 if measure == ACCURACY else -most
    if len(values) == 1:
        return Estimate(values[0], low, most, 0.0, n, 1)
    return over_seeds(values, n, low=low, high=most)
