"""A study: options that a user gives, a plan of cells that follows from them, and one way to run any of them."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

from whatwhere.devices import check_device
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell, Store, opened
from whatwhere.lab.cells import Worker as Worker  # what a plan must provide
from whatwhere.lab.pictures import check_pictures
from whatwhere.lab.progress import silence
from whatwhere.lab.resources import Resources, check_engine
from whatwhere.lab.seconds import Seconds
from whatwhere.training.tracking import Log, check_log

if TYPE_CHECKING:
    from whatwhere.lab.engines import Engine
    from whatwhere.lab.result import Result

    AnyPath: TypeAlias = str | os.PathLike[str]
    AnyEngine: TypeAlias = str | Engine
else:  # what reads signatures at run time waits for no torch
    Result = Any
    AnyPath = AnyEngine = str

R = TypeVar("R", bound="Result")
S = TypeVar("S", bound="Study[Any]")


@dataclass(frozen=True)
class Run(Resources):
    """Where and how a study runs. None of this changes a number.

    Attributes:
        out: folder for the cells, result.json, table.csv, figures and index.html. The same call resumes there; a
            folder of another study is refused. None keeps nothing.
        weights_folder: folder for checkpoints and trained weights; `out` if not given.
        workers: processes that run cells side by side; 0 runs them in this process.
        device: auto, cpu, cuda or mps.
        fold_only: run nothing, and make the result of the cells that are finished.
        quiet: print no progress.
        overwrite: replace files in `out` that no study wrote, such as an index.html; another study's never.
        log: also log every epoch of trainings: csv or tensorboard (in the folder's logs/), wandb, mlflow or trackio
            (where their own settings say).
        engine: ray (or ray:HOST:PORT), slurm, or submitit-local (the same jobs on this machine), instead of workers; in
            Python also anything with `submit(function, configuration)` that returns handles with `done()` and
            `result()`.
    """

    out: AnyPath | None = None
    weights_folder: AnyPath | None = None
    workers: int = 0
    device: str = "auto"
    fold_only: bool = False
    quiet: bool = False
    overwrite: bool = False
    log: Log | None = None
    engine: AnyEngine | None = None

    @property
    def folder(self) -> Path:
        """Where cells and the result go.

        Raises:
            ValueError: while `out` is None; `run_study` makes a temporary folder first.
        """
        if self.out is None:
            raise ValueError("out is None.")
        return Path(self.out)

    @property
    def files(self) -> Path:
        """Where checkpoints and weights go."""
        return Path(self.weights_folder) if self.weights_folder else self.folder


@dataclass(frozen=True)
class Finished:
    """The finished cells of a folder, those of earlier calls included.

    Attributes:
        store: the folder.
        contents: configuration and result by the cell's key.
        missing: cells that were asked for and are not finished.
    """

    store: Store
    contents: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=dict)
    missing: Sequence[Cell] = ()

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Configurations with their results, in the order of their keys."""
        return iter(self.contents.values())

    def __contains__(self, cell: Cell) -> bool:
        """Whether a cell is finished."""
        return cell.key in self.contents

    def __getitem__(self, cell: Cell) -> Mapping[str, Any]:
        """The result of a finished cell."""
        return self.contents[cell.key][1]

    def by(self, *names: str) -> dict[tuple[Any, ...], Mapping[str, Any]]:
        """Results by some entries of their configurations, of the cells that have them all."""
        return {tuple(c[n] for n in names): result for c, result in self if all(n in c for n in names)}

    def notes(self) -> list[str]:
        """Which cells are missing."""
        return [f"Not finished: {'; '.join(c.label for c in self.missing)}."] if self.missing else []


class Study(Generic[R]):
    """What a user asks for: a frozen dataclass, whose attributes are the options in Python and on the command line.

    It is light: importing it loads no torch, so that `--help` is quick. What it does is in its `Plan`.

    Attributes:
        kind: names the study in its folder's `study.json`.
        plan: the plan's class, or where it is ("package.module:Class").
        result: the result's class, likewise; `load_result` finds it by the `kind` in result.json.
        usual_out: the folder that the command writes into if it is not told another.
    """

    kind: ClassVar[str]
    plan: ClassVar[str | type[Plan[Any, Any]]]
    result: ClassVar[str | type[Result]]
    usual_out: ClassVar[str] = "out"

    def planned(self) -> Plan[Any, R]:
        """The plan of these options."""
        made: Plan[Any, R] = loaded(self.plan)(self)
        return made

    def run(self, out: AnyPath | None = None, **how: Any) -> R:
        """Run what is missing and return the result.

        Args:
            out: folder; None keeps nothing.
            **how: the other attributes of `Run`.
        """
        return run_study(self, Run(out, **how))


class Plan(Generic[S, R]):
    """What a study does with its options.

    Attributes:
        study: the options.
        folder: of the cells and the result, inside of `out`.
        keeps_weights: whether trained weights are kept, so that a `weights_folder` makes sense.
        title: of the bar that says how far it is.
    """

    folder: ClassVar[str] = ""
    title: ClassVar[str] = "cells"
    keeps_weights: ClassVar[bool] = False

    @property
    def logs(self) -> bool:
        """Whether cells train what can be logged."""
        return self.keeps_weights

    def __init__(self, study: S) -> None:
        self.study = study

    def before(self) -> Study[Any] | None:
        """A study that this one rests on; it runs first, into `out`."""
        return None

    def shared(self) -> Mapping[str, Any]:
        """What all cells of a folder share; a folder that holds anything else is refused."""
        raise NotImplementedError

    def cells(self, done: Finished) -> Iterable[Cell]:
        """All cells that can be named so far, the most telling first; asked again after they are finished."""
        raise NotImplementedError

    def check(self, how: Run) -> None:
        """Refuse, before anything runs, what would fail later."""

    def warnings(self) -> Iterable[str]:
        """Warnings to print before the run."""
        source = getattr(self.study, "network_source", None)
        if source is None:
            return []
        from whatwhere.models.weights import random_weights  # torch

        return random_weights(source.net)

    def worker(self, how: Run) -> Worker:
        """What runs a cell. It is sent to other processes: it holds paths and names, no data and no networks."""
        raise NotImplementedError

    def fold(self, done: Finished) -> R:
        """The finished cells as one result."""
        raise NotImplementedError

    def weights(self, done: Finished) -> dict[str, Any]:
        """Fingerprints of weights for the result: of the network that was measured, of those trained by their cells."""
        found = {cell: plain["weights"] for cell, (_, plain) in done.contents.items() if "weights" in plain}
        if source := getattr(self.study, "network_source", None):
            from whatwhere.fingerprints import fingerprint  # torch

            found["measured"] = fingerprint(source.net.module)
        return {"weights": found} if found else {}

    def page(self, how: Run) -> Path:
        """Where the page is after a run."""
        return how.folder / self.folder / "index.html"


def loaded(where: str | type[Any]) -> Any:
    """A class, or what "package.module:name" names."""
    if not isinstance(where, str):
        return where
    module, _, name = where.partition(":")
    return getattr(import_module(module), name)


def run_study(study: Study[R], how: Run) -> R:
    """Run the cells that are missing, fold those that are finished, and write the result.

    Args:
        study: what to do.
        how: where, and with what.

    Raises:
        InputError: for options that cannot work, before anything runs; for a folder of another study.
    """
    from whatwhere.lab.provenance import provenance  # torch

    check_engine(how.engine, how.workers, how, kept=how.out is not None, device=how.device)
    started = time.perf_counter()
    with kept_in(how) as placed, silence(how.quiet):
        plan = study.planned()
        _check_run(plan, placed)
        if first := plan.before():
            run_study(first, placed)
        shared = {"study": study.kind, **plan.shared()}
        kind = loaded(study.result).kind
        where = placed.folder / plan.folder
        with (
            opened(where, shared, kind=kind, overwrite=how.overwrite) as store,
            counting(store, started, how) as seconds,
        ):
            if how.out is not None:
                check_pictures(store.folder, plan, overwrite=how.overwrite)
            asked = _asked(plan, placed, store)
            done = Finished(store, store.contents(), [c for c in asked if not store.has(c)])
            folded: Any = plan.fold(done)  # a dataclass, which no type says of `R`
            notes = dict.fromkeys((*folded.notes, *data_notes(plan)))
            origin = {**provenance(seconds.total), **plan.weights(done)}
            result: R = replace(folded, notes=tuple(notes), provenance=origin)
            if how.out is not None:
                result.save(store.folder, overwrite=how.overwrite)
    return result


def counting(store: Store, started: float, how: Run) -> AbstractContextManager[Seconds]:
    """The seconds of a run, with those of earlier ones; a fold adds none."""
    seconds = Seconds(store.folder, started if not how.fold_only else time.perf_counter(), store.seconds())
    return nullcontext(seconds) if how.fold_only else seconds


def _asked(plan: Plan[Any, Any], how: Run, store: Store) -> list[Cell]:
    """The cells that were asked for, which have run by now unless they are only folded."""
    return list(plan.cells(Finished(store, store.contents()))) if how.fold_only else _run_all(plan, how, store)


def data_notes(plan: Plan[Any, Any]) -> Iterator[str]:
    """What the reader must know of a study's pictures or scenes: what was passed over, which classes are absent."""
    for given in (getattr(plan.study, "data_source", None), getattr(plan, "test_source", None)):
        yield from [] if given is None else given.given.notes
    scenes = getattr(plan.study, "scene_source", None)
    yield from [] if scenes is None else (*scenes.scenes.notes, *scenes.scenes.absent_notes())


def _check_run(plan: Plan[Any, Any], how: Run) -> None:
    check_device(how.device, here=not how.fold_only and how.engine is None)
    if how.weights_folder and not plan.keeps_weights:
        raise InputError(f"weights_folder={os.fspath(how.weights_folder)!r}: this study trains nothing; leave it out.")
    if how.log and not plan.logs:
        raise InputError(f"log={how.log!r}: this study trains nothing that is logged; leave it out.")
    if how.log:
        check_log(how.log)
    if how.fold_only and not (how.folder / plan.folder / "study.json").is_file():
        raise InputError(f"out={str(how.folder)!r} holds no study to fold; leave fold_only out to run it.")


def _run_all(plan: Plan[Any, Any], how: Run, store: Store) -> list[Cell]:
    """Run what is missing, round by round: what some cells do is known once others are finished."""
    from whatwhere.lab.engines import engine_for  # torch
    from whatwhere.lab.running import run_cells

    plan.check(how)
    worker, asked = plan.worker(how), dict[str, Cell]()
    with _announced(plan, how, store), engine_for(how.workers, how.engine, how, how.folder) as engine:
        while True:
            cells = {c.key: c for c in plan.cells(Finished(store, store.contents()))}
            if cells.keys() <= asked.keys():
                return list(asked.values())
            asked |= cells
            worked = _logging(worker, cells, how)
            run_cells(list(cells.values()), worked, store, engine, quiet=how.quiet, title=plan.title)


def _logging(worker: Worker, cells: Mapping[str, Cell], how: Run) -> Worker:
    """The worker, or one whose trainings are logged."""
    if how.log is None:
        return worker
    from whatwhere.lab.tracked import Logging  # torch

    return Logging(worker, how.log, how.folder, {key: cell.label for key, cell in cells.items()})


@dataclass
class _Told:
    """Warnings that are printed, of a study and of those that run inside it, so that each is read once."""

    depth: int = 0
    warnings: set[str] = field(default_factory=set)


_told = _Told()


@contextmanager
def _announced(plan: Plan[Any, Any], how: Run, store: Store) -> Iterator[None]:
    """Print warnings and the number of finished cells, and run."""
    if not how.quiet:
        for warning in dict.fromkeys(w for w in plan.warnings() if w not in _told.warnings):
            print(f"Note: {warning}", file=sys.stderr)
            _told.warnings.add(warning)
        if there := 0 if _told.depth else len(store.contents()):
            print(f"{there} finished cells are there already.", file=sys.stderr)
    _told.depth += 1
    try:
        yield
    finally:
        _told.depth -= 1
        if not _told.depth:
            _told.warnings.clear()


@contextmanager
def kept_in(how: Run) -> Iterator[Run]:
    """The same, with a temporary folder where none was given."""
    if how.out is not None:
        yield how
        return
    with tempfile.TemporaryDirectory(prefix="whatwhere-") as folder:
        yield replace(how, out=folder)
