"""Engines under `kill -9`, and how many cells a second they run.

    python benchmarks/engines.py [--parts "kills;trainings;rates"] [--only "2 workers;ray, 2 nodes"]

The kill test: 12 cells of 8 steps, each with its checkpoint; whoever runs is killed at random, a command or a process
that runs a cell, and the same command is given again until all is finished, in folder after folder, until there were
30 kills. No cell may be lost, run by two living processes at once, or kept twice; the table must be that of a run
without kills. So that a process starts in a moment, a cell hashes what its last step has made, and torch is a stand-in.
Then the same with few kills and real trainings (`fit`, weight by weight). Then cells a second without kills: empty
cells (what the engine costs) and cells that wait 2 seconds (what side by side gives where cores are free).
Results go into a file after each engine; engines that are in it are not run again. SLURM itself is one of them where
`sbatch` is, on nodes that see this machine's temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from small_process import Telling, alive, light_in
from small_slurm import slurm_in
from whatwhere.files import read_json, write_json
from whatwhere.lab.provenance import hardware, versions

ENGINES: dict[str, tuple[int, list[str]]] = {
    "this process": (1, []),
    "this process, two commands": (2, []),
    "1 worker": (1, ["--workers", "1"]),
    "2 workers": (1, ["--workers", "2"]),
    "2 workers, two commands": (2, ["--workers", "2"]),
    "submitit-local": (1, ["--engine", "submitit-local"]),
    "slurm, stand-ins for its commands": (1, ["--engine", "slurm"]),
    "slurm": (1, ["--engine", "slurm"]),
    "ray, 2 nodes": (1, ["--engine", "ray:ADDRESS"]),
}
SLURM, CLUSTER = "slurm, stand-ins for its commands", "slurm"
KILLED = ("this process, two commands", "2 workers", "submitit-local", SLURM, "ray, 2 nodes", CLUSTER)
COUNT, STEPS, SECONDS = 12, 8, 2.0
HERE, TESTS = Path(__file__).parent, Path(__file__).parent.parent / "tests"
LIGHT = """
import sys
from pathlib import Path
from small_process import Telling, squares
from whatwhere.lab.cells import Store
from whatwhere.lab.engines import engine_for
from whatwhere.lab.running import run_cells

if __name__ == "__main__":
    out, options = Path(sys.argv[1]), dict(zip(sys.argv[2::2], sys.argv[3::2]))
    with engine_for(int(options.get("--workers", 0)), options.get("--engine"), folder=out) as engine:
        worker = Telling(out / "told", float(options["--seconds"]), int(options["--steps"]))
        run_cells(squares(int(options["--count"])), worker, Store(out, {}), engine, quiet=True)
"""


@contextmanager
def nodes(name: str, folder: Path, part: str) -> Iterator[list[str]]:
    """The words of an engine, with a cluster of two nodes of one core where it needs one."""
    words = ENGINES[name][1]
    if name == SLURM:
        os.environ["PATH"] = os.pathsep.join([str(slurm_in(folder)), os.environ["PATH"]])
    if not name.startswith("ray"):
        yield words
        return
    os.environ["PYTHONPATH"] = Commands(folder, part != "trainings").env["PYTHONPATH"]  # which its workers inherit
    cluster = two_nodes()
    try:
        yield [w.replace("ADDRESS", cluster.address) for w in words]
    finally:
        cluster.shutdown()


def two_nodes(tries: int = 5) -> Any:
    """A cluster on this machine; where it is busy, Ray gives up after 30 seconds."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for attempt in range(1, tries + 1):
        try:
            while len(cluster.list_all_nodes()) < 2:
                cluster.add_node(num_cpus=1, **({} if cluster.head_node else {"include_dashboard": False}))
            return cluster
        except Exception:
            if attempt == tries:
                raise
    raise AssertionError


class Commands:
    """What is given again and again.

    Args:
        folder: for what they need.
        light: without torch.
    """

    def __init__(self, folder: Path, light: bool) -> None:
        self.env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.script = [str(HERE / "engines.py"), "--command"]
        if light:
            self.env["PYTHONPATH"] = os.pathsep.join([str(light_in(folder)), str(TESTS)])
            (folder / "light.py").write_text(LIGHT)
            self.script = [str(folder / "light.py")]

    def start(
        self, out: Path, words: list[str], count: int = COUNT, seconds: float = SECONDS, steps: int = STEPS
    ) -> subprocess.Popen[bytes]:
        """Give it once."""
        extra = ["--count", str(count), "--seconds", str(seconds), "--steps", str(steps)]
        with (out.parent / f"{out.name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *self.script, str(out), *words, *extra], stdout=log, stderr=log, env=self.env
            )


@dataclass
class KillTest:
    """One engine, killed again and again.

    Attributes:
        commands: what is given.
        name: of the engine.
        left: kills that are left.
        draws: of moments and victims.
        killed: how many of which.
    """

    commands: Commands
    name: str
    left: int
    draws: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    def run(self, folder: Path, words: list[str], expected: dict[int, Any]) -> dict[str, Any]:
        """In folder after folder, until no kills are left."""
        began, folders = time.monotonic(), []
        while self.left:
            out = folder / f"{self.name.replace(' ', '-')}-{len(folders)}"
            self._finish(out, words)
            folders.append(self._found(out, expected))
        found = {key: sum(f[key] for f in folders) for key in folders[0]}
        return {"folders": len(folders), "killed": dict(self.killed), **found, "seconds": time.monotonic() - began}

    def _finish(self, out: Path, words: list[str]) -> None:
        """Give the command until it ends by itself, and kill meanwhile."""
        running = [self.commands.start(out, words) for _ in range(ENGINES[self.name][0])]
        worker = Telling(out / "told")
        while running:
            begun = len(worker.told("began"))
            while self.left and len(worker.told("began")) == begun and all(c.poll() is None for c in running):
                time.sleep(0.02)  # until somebody begins a cell
            time.sleep(self.draws.uniform(0, SECONDS) if self.left else 0.2)
            if self.left:
                self._kill(running, worker)
            running = [c if c.poll() is None else self.commands.start(out, words) for c in running if c.poll() != 0]

    def _kill(self, running: list[subprocess.Popen[bytes]], worker: Telling) -> None:
        commands = {c.pid for c in running if c.poll() is None}
        others = {pid for _, pid in worker.told("running") if alive(pid)} - commands
        if victims := [(what, pids) for what, pids in (("command", commands), ("worker", others)) if pids]:
            what, pids = self.draws.choice(victims)
            os.kill(self.draws.choice(sorted(pids)), signal.SIGKILL)
            self.killed[what] += 1
            self.left -= 1
            time.sleep(0.1)

    def _found(self, out: Path, expected: dict[int, Any]) -> dict[str, int]:
        worker, results = Telling(out / "told"), results_in(out)
        kept = Counter(cell for cell, _ in worker.told("kept"))
        return {
            "cells": len(results),
            "lost": COUNT - len(results),
            "run by two at once": len(worker.told("doubled")),
            "kept twice": sum(n > 1 for n in kept.values()),
            "other results than without kills": sum(results.get(x) != expected[x] for x in expected),
            "begun again": len(worker.told("began")) - COUNT,
            "steps done again": len(worker.told("step")) - COUNT * STEPS,
            "other files left in cells/": sum(f.suffix != ".json" for f in (out / "cells").iterdir()),
        }


def results_in(out: Path) -> dict[int, Any]:
    """The result of every cell."""
    cells = [read_json(f) for f in (out / "cells").glob("*.json")]
    return {c["config"]["x"]: c["result"] for c in cells}


def kills(folder: Path, name: str, words: list[str], many: int, *, light: bool) -> dict[str, Any]:
    """The kill test of an engine, after a run that nobody kills."""
    commands = Commands(folder, light)
    if commands.start(folder / "expected", []).wait():
        raise RuntimeError((folder / "expected.log").read_text())
    return KillTest(commands, name, many, random.Random(name)).run(folder, words, results_in(folder / "expected"))


def rate(folder: Path, name: str, words: list[str], count: int, seconds: float) -> dict[str, float]:
    """Seconds until the first cell begins, and cells a second from then to the last result."""
    out, begun, commands = folder / f"rate-{time.time_ns()}", time.time(), Commands(folder, light=True)
    steps = STEPS if seconds else 0
    running = [commands.start(out, words, count, seconds, steps) for _ in range(ENGINES[name][0])]
    codes = [c.wait() for c in running]
    if any(codes):
        raise RuntimeError(Path(f"{out}.log").read_text())
    first = min(int(f.name.split("-")[-1]) for f in (out / "told").glob("began-*")) / 1e9
    last = max(f.stat().st_mtime for f in (out / "cells").glob("*.json"))
    return {"seconds to the first": first - begun, "cells/s": count / (last - first)}


def rates(folder: Path, name: str, words: list[str], rounds: int) -> dict[str, Any]:
    """Of empty cells, and of cells that wait 2 seconds in 8 steps."""
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    many = 20 if name == "submitit-local" else 200  # each of its cells is a process
    for what, count, seconds in (("empty cells", many, 0.0), ("cells of 2 s", 8, SECONDS)):
        each = [rate(folder, name, words, count, seconds) for _ in range(rounds)]
        medians = {f"{key}, median": round(float(np.median([e[key] for e in each])), 3) for key in each[0]}
        found[what] = {"cells": count, **medians, "cells/s, each round": [round(e["cells/s"], 3) for e in each]}
    return found


def measured(part: str, name: str, args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="engines-") as temporary, nodes(name, Path(temporary), part) as words:
        folder = Path(temporary)
        if part == "rates":
            return rates(folder, name, words, args.rounds)
        many = args.kills if part == "kills" else args.training_kills
        return kills(folder, name, words, many, light=part == "kills")


def slurm_version() -> dict[str, str]:
    said = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, check=True)
    return {"version": said.stdout.strip()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--training-kills", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="engines, with semicolons")
    parser.add_argument("--parts", default="kills;trainings;rates")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engines.json"))
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    found = read_json(args.out) if args.out.exists() else {}
    for part in args.parts.split(";"):
        names = [n for n in ENGINES if n != SLURM] if part == "rates" else KILLED
        names = [n for n in names if n != CLUSTER or shutil.which("sbatch")]
        for name in args.only.split(";") if args.only else names:
            if name in names and name not in found.setdefault(part, {}):
                found[part][name] = measured(part, name, args) | (slurm_version() if name == CLUSTER else {})
                print(part, name, json.dumps(found[part][name], indent=1), flush=True)
                write_json(args.out, {**found, "hardware": hardware(), "versions": versions()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--command"]:
        from engines_study import main as command  # torch

        command(sys.argv[2:])
    else:
        main()
