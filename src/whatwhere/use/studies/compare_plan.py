"""The comparison's cells: train a network with a method inside, test it, and fold all into rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.packed import pack, unpack
from whatwhere.lab.rows import ONE_SEED, SEEDS, Row, accuracy, checked_seeds, difference
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.lab.trainer import Trainer
from whatwhere.models.load import load_model
from whatwhere.network import Network
from whatwhere.site_table import list_sites
from whatwhere.surgery import count_parameters
from whatwhere.training.evaluate import evaluate
from whatwhere.use.insert import maker, recalibrate
from whatwhere.use.studies.compare import Compare
from whatwhere.use.studies.compare_result import GAIN, MEASURE, NONE, CompareResult
from whatwhere.use.studies.wider import WIDER, check_wider, widened

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
Found = Mapping[tuple[Any, ...], Mapping[str, Any]]


class ComparePlan(Plan[Compare, CompareResult]):
    """A cell is one network: a method and a seed."""

    keeps_weights: ClassVar[bool] = True

    @cached_property
    def options(self) -> dict[str, Any]:
        """Model, its options, and how it is trained."""
        classes = len(self.study.data_source.data.classes)
        options = {"classes": classes, "width": self.study.width}
        return {"model": self.study.model, "options": options, "recipe": self.study.how.to_dict()}

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The methods, each once, the plain network first."""
        return checked_methods(as_tuple(self.study.methods), self.study.model)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, each once."""
        return checked_seeds(as_tuple(self.study.seeds))

    def shared(self) -> Mapping[str, Any]:
        """The model, its options, the recipe and the pictures.

        Raises:
            InputError: for unknown methods or wrong seeds, before a folder is made for them.
        """
        _ = self.names, self.seeds  # checked
        data = self.study.data_source.data
        return {**self.options, "data": {"train": data.train.fingerprint, "test": data.test.fingerprint}}

    def cell(self, name: str, seed: int) -> Cell:
        """The cell that trains the network of a method and seed."""
        return cell_of(name, seed, self.shared())

    def cells(self, done: Finished) -> Iterable[Cell]:
        """A network for each seed and method."""
        return [self.cell(name, seed) for seed in self.seeds for name in self.names]

    def check(self, how: Run) -> None:
        """What cannot be built is refused before anything is trained."""
        for name in (n for n in self.names if n not in (NONE, WIDER)):
            build(self.cell(name, self.seeds[0]).config)

    def worker(self, how: Run) -> CompareWorker:
        """Trains one network."""
        return CompareWorker(self.study.data_source, how.files, how.device)

    def finished(self, done: Finished) -> tuple[list[str], list[int]]:
        """Methods and seeds, those of earlier calls included."""
        there = [config for config, _ in done]
        names = dict.fromkeys([*self.names, *sorted({c["name"] for c in there})])
        seeds = dict.fromkeys([*self.seeds, *sorted({c["seed"] for c in there})])
        return list(names), list(seeds)

    def fold(self, done: Finished) -> CompareResult:
        """A row for each method."""
        names, seeds = self.finished(done)
        found = done.by("name", "seed")
        complete = [s for s in seeds if (NONE, s) in found]
        rows = [row_of(n, there, found) for n in names if (there := [s for s in complete if (n, s) in found])]
        if not rows:
            raise InputError("no cell of the plain network is finished; run the study without fold_only.")
        base = found[NONE, complete[0]]
        missing = [f"{n}, seed {s}" for n in names for s in seeds if (n, s) not in found]
        return CompareResult(
            tuple(rows),
            data=self.study.data_source.data.describe(),
            settings={**self.options, "seeds": seeds, "methods": names},
            notes=(*self._notes(names, len(complete)), *([f"Not finished: {'; '.join(missing)}."] if missing else [])),
            cost={r.name: _cost(next(v for (n, _), v in found.items() if n == r.name), base) for r in rows},
        )

    def _notes(self, names: Sequence[str], seeds: int) -> Iterable[str]:
        yield SEEDS if seeds > 1 else ONE_SEED
        yield "Differences are paired: the same seed, the same pictures."
        if WIDER in names:
            yield f"{WIDER}: the plain network at width {widened(self.options)['options']['width']:.4g}."


class CompareWorker(Trainer):
    """Trains the network of a cell, and tests it."""

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Run one cell."""
        net = build(config)
        history = self.trained(net, config, f"{config['name']}, seed {config['seed']}")
        tested = evaluate(net, self.data.test)
        return {
            "accuracy": tested.accuracy,
            "n": tested.n,
            "hits": pack(tested.correct.numpy().astype(np.uint8)),
            "epochs": history.epochs,
            "parameters": count_parameters(net.module),
            "weights": fingerprint(net.module),
            "flops": list_sites(net).total_flops,
        }

    def network(self, config: Mapping[str, Any]) -> Network:
        """The network of a cell after its training."""
        return self.load(build(config), config)


def build(config: Mapping[str, Any]) -> Network:
    """The network of a cell before its training: the same initial weights for every method, but for its own."""
    net = load_model(config["model"], seed=config["seed"], fresh=True, **config["options"])
    if config["method"] == NONE:
        return net
    return recalibrate(net, config["method"], seed=config["seed"], **config["settings"])


def cell_of(name: str, seed: int, shared: Mapping[str, Any]) -> Cell:
    """The cell that trains one network; `shared` is model, options, recipe and data of the folder."""
    method, settings = NAMED.get(name, (name, {}))
    if name == WIDER:
        shared, method = widened(shared), NONE
    config = {**shared, "do": "train", "name": name, "method": method, "settings": settings, "seed": seed}
    return Cell(config, f"{name}, seed {seed}")


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


def row_of(name: str, seeds: Sequence[int], found: Found) -> Row:
    """Accuracy of a method over seeds, and its paired difference from the plain network."""
    hits, plain = (np.array([unpack(found[n, s]["hits"]) for s in seeds], bool) for n in (name, NONE))
    measured = {MEASURE: accuracy(hits)}
    values = {MEASURE: tuple(hits.mean(1).tolist())}
    if name != NONE:
        measured[GAIN] = difference(hits, plain)
        values[GAIN] = tuple((hits.mean(1) - plain.mean(1)).tolist())
    return Row(name, name, measured, values)


def _cost(cell: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, float]:
    return {f"{k} %": 100 * (cell[k] / base[k] - 1) for k in ("parameters", "flops")}
