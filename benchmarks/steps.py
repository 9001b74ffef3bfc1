"""Running the run-book: its steps as processes, what is finished, and entries side by side."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from run_book import STUDIES, Entry, Step
from whatwhere.cli import main as whatwhere
from whatwhere.files import read_json, write_json

ROOT = Path(__file__).parents[1]
GRACE = 30  # seconds that a command has to stop in
SERVICE = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"


@dataclass
class State:
    """What is finished, kept beside the results.

    Attributes:
        folder: of the results.
        done: finished steps, by entry, number and what they say.
        seconds: spent in each entry.
        device: the machine's name and rates, as last measured.
        dry: whether they ran at toy size.
    """

    folder: Path
    done: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    dry: bool = False
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def of(cls, folder: Path, *, dry: bool = False) -> State:
        """As it was left there; a dry run is not gone on with at full size, which would take toys for finished."""
        file = folder / "state.json"
        there = cls(folder, **{"dry": dry, **(read_json(file) if file.exists() else {})})
        if there.dry != dry:
            kinds = ("a dry run's", "this is none") if there.dry else ("no dry run's", "this is one")
            raise SystemExit(f"--out {folder}: what is there is {kinds[0]}, and {kinds[1]}; give another folder.")
        return there

    def keep(self) -> None:
        """Write it."""
        kept = {"done": self.done, "seconds": self.seconds, "device": self.device, "dry": self.dry}
        write_json(self.folder / "state.json", kept)

    def spent(self, entry: Entry, number: int, seconds: float, *, finished: bool) -> None:
        """Keep how long a step took, and whether it is finished; entries side by side write one after the other."""
        with self._one:
            self.seconds[entry.name] = round(self.seconds.get(entry.name, 0.0) + seconds, 1)
            self.done += [_name(entry, number)] * finished
            self.keep()

    def has(self, entry: Entry, number: int) -> bool:
        """Whether a step is finished."""
        return _name(entry, number) in self.done

    def left(self, entry: Entry) -> list[Step]:
        """The steps that are not."""
        return [step for i, step in enumerate(entry.steps) if not self.has(entry, i)]


def _name(entry: Entry, number: int) -> str:
    """With a digest of what the step says, so that one whose options have changed is not taken for finished."""
    step = entry.steps[number]
    said = json.dumps([step.command, *sorted(step.options.items())])
    return f"{entry.name} {number + 1} {hashlib.sha256(said.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Runner:
    """Runs steps.

    Attributes:
        state: what is finished.
        folders: of data and results, by name.
        device: auto, cpu, cuda or mps.
        workers: processes side by side in studies that train.
        dry: at toy size, in this process.
        until: when to stop, in `time.monotonic()`.
    """

    state: State
    folders: Mapping[str, str]
    device: str
    workers: int
    dry: bool
    until: float

    def run(self, entry: Entry) -> bool:
        """Run what is left of an entry; whether all of it is finished."""
        for i, step in enumerate(entry.steps):
            if self.state.has(entry, i):
                continue
            if STOP.is_set():
                return False
            started = time.monotonic()
            finished = self._step(step, self.state.folder / f"{entry.name}.log" if entry.beside else None)
            self.state.spent(entry, i, time.monotonic() - started, finished=finished)
            if not finished:
                return False
        return True

    def fold(self, entry: Entry) -> None:
        """Make results of what is finished of an entry that is not, one for each folder."""
        last = {step.options["out"]: step for step in self.state.left(entry) if step.command in STUDIES}
        for out, step in last.items():
            if Path(out.format(**self.folders), "study.json").exists():
                _here(self._words(step, fold_only="true"))

    def _words(self, step: Step, **more: str) -> list[str]:
        if step.is_script:
            return ["python", *step.words(self.folders, dry=self.dry)]
        given = {"device": self.device}
        if self.dry and step.command in STUDIES:
            given["quiet"] = "true"
        if not self.dry and step.command in STUDIES and step.trains:
            given["workers"] = str(self.workers)
        return ["whatwhere", *step.words(self.folders, dry=self.dry, **given, **more)]

    def _step(self, step: Step, log: Path | None) -> bool:
        words = self._words(step)
        print(f"$ {' '.join(words)}", *([f"   # said in {log}"] if log and not self.dry else []), flush=True)
        if self.dry and not _here(words):
            raise SystemExit(f"{' '.join(words)}: failed")
        return self.dry or _typed(words, self.until - time.monotonic(), log)


RUNNING: set[subprocess.Popen[bytes]] = set()
ONE, STOP = threading.Lock(), threading.Event()  # one at a time is added to them; no other is, once Ctrl-C was typed


def run_all(runner: Runner, entries: Sequence[Entry]) -> None:
    """Run entries in their order, those that train one network at a time beside the others, and what is timed alone.

    Args:
        runner: of their steps.
        entries: which.
    """
    STOP.clear()
    beside = [e for e in entries if e.beside and not runner.dry]
    timed = [e for e in entries if any(step.is_script for step in e.steps)]
    with ThreadPoolExecutor(max(1, len(beside))) as threads, _stopped():
        there = [threads.submit(_through, runner, e) for e in beside]
        for entry in entries:
            if entry not in (*beside, *timed):
                _through(runner, entry)
        for one in there:
            one.result()
        for entry in timed:
            _through(runner, entry)


def _through(runner: Runner, entry: Entry) -> None:
    if time.monotonic() < runner.until:
        _told(entry, runner.run)


def fold_all(runner: Runner, entries: Sequence[Entry]) -> None:
    """Make results of what is finished of entries that are not.

    Args:
        runner: of their steps.
        entries: which.
    """
    for entry in entries:
        _told(entry, runner.fold)


def _told(entry: Entry, do: Callable[[Entry], Any]) -> None:
    """Do something of an entry; where it cannot be done, the others are still."""
    try:
        do(entry)
    except Exception as error:
        print(f"  {entry.name}: {error}", flush=True)


@contextlib.contextmanager
def _stopped() -> Iterator[None]:
    """Pass Ctrl-C on to what runs: each command leads a group of its own, which it does not reach."""
    try:
        yield
    except KeyboardInterrupt:
        STOP.set()
        with ONE:
            there = list(RUNNING)
        for how in (signal.SIGINT, signal.SIGKILL):
            for process in there:
                _stop(process, how)
            _wait_for(there, time.monotonic() + GRACE)
        raise


def _wait_for(processes: Sequence[subprocess.Popen[bytes]], until: float) -> None:
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, until - time.monotonic()))


def _stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)


@contextlib.contextmanager
def served(wanted: bool) -> Iterator[None]:
    """NVIDIA's service for several processes on one GPU, in a folder of our own; gone afterwards.

    Args:
        wanted: whether to start it; else nothing is done.
    """
    if not wanted:
        yield
        return
    if not shutil.which(SERVICE):
        raise SystemExit(f"--mps: {SERVICE} is not here, it comes with NVIDIA's driver; leave --mps out.")
    before = {name: os.environ.get(name) for name in (PIPES, LOGS)}
    with tempfile.TemporaryDirectory(prefix="mps-") as folder:
        try:
            os.environ |= {PIPES: folder, LOGS: folder}
            subprocess.run([SERVICE, "-d"], check=True, start_new_session=True)
            try:
                yield
            finally:
                subprocess.run([SERVICE], input=b"quit\n", check=False)
        finally:
            for name, value in before.items():
                del os.environ[name]
                os.environ |= {name: value} if value is not None else {}


def _typed(words: Sequence[str], seconds: float, log: Path | None = None) -> bool:
    """Run a command for at most some seconds, then stop it as Ctrl-C would; whether it is finished."""
    program = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "whatwhere"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    how: dict[str, Any] = {"cwd": ROOT, "env": environment, "start_new_session": True}
    with open(log, "ab") if log else contextlib.nullcontext() as out, ONE:
        if STOP.is_set():
            return False
        process = subprocess.Popen([*program, *words[1:]], stdout=out, stderr=out, **how)
        RUNNING.add(process)
    try:
        return _ended(process, words, seconds)
    finally:
        if process.poll() is not None:
            RUNNING.discard(process)


def _ended(process: subprocess.Popen[bytes], words: Sequence[str], seconds: float) -> bool:
    for how, patience in ((None, seconds), (signal.SIGINT, GRACE), (signal.SIGKILL, GRACE)):
        if how:
            _stop(process, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(max(1.0, patience))
            if code and how is None and not STOP.is_set():
                print(f"  {' '.join(words[:3])}: failed with status {code}; the next entry follows.", flush=True)
            return code == 0 and how is None and not STOP.is_set()
    return False


def _here(words: Sequence[str]) -> bool:
    """The same in this process, which is quicker for what is tiny; whether it ended well."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            whatwhere(words[1:]) if words[0] == "whatwhere" else _script(words[1:])
    except SystemExit as ended:
        return not ended.code
    return True


def _script(words: Sequence[str]) -> None:
    before = sys.argv
    sys.argv = list(words)
    try:
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")
    finally:
        sys.argv = before
