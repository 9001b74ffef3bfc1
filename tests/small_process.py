"""Processes that start in a moment, and cells that tell who ran them: for tests of what several processes do at once."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import whatwhere
from whatwhere.files import write_json
from whatwhere.lab.cells import Cell, Worker

TESTS = Path(__file__).parent
TORCH = """
class cuda:
    device_count = staticmethod(lambda: 0)

threads = [99]
set_num_threads = lambda n: threads.append(n)
get_num_threads = lambda: threads[-1]
"""


def light_in(folder: Path) -> Path:
    """What new processes import instead: `whatwhere` without timm and torchvision, and what engines need of torch."""
    light = folder / "light"
    for package, text in {"whatwhere": f"__path__ = {list(whatwhere.__path__)!r}", "torch": TORCH}.items():
        (light / package).mkdir(parents=True, exist_ok=True)
        (light / package / "__init__.py").write_text(text)
    return light


def started(code: str, light: Path, **options: Any) -> "subprocess.Popen[str]":
    """Python on a text, with the light packages."""
    path = os.pathsep.join([str(light), str(TESTS)])
    return subprocess.Popen([sys.executable, "-c", code], text=True, env={**os.environ, "PYTHONPATH": path}, **options)


def wait_for(file: Path, seconds: float = 90) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if file.exists() and file.read_text():
            return file.read_text()
        time.sleep(0.05)
    raise TimeoutError(file)


def alive(pid: int) -> bool:
    """Whether a process runs; a killed one that nobody has waited for (a zombie) does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends."""
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


@dataclass(frozen=True)
class Telling(Worker):
    """Goes through steps, each with its checkpoint, and writes into a folder which process does what.

    Attributes:
        folder: gets checkpoints, and empty files WHAT-CELL-PROCESS-TIME: began, running, step, kept; doubled where
            another living process runs the same cell.
        seconds: of a cell.
        steps: of a cell.
    """

    folder: Path
    seconds: float = 0.1
    steps: int = 4

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.folder.mkdir(exist_ok=True)
        if any(cell == config["x"] and alive(pid) for cell, pid in self.told("running")):
            self.tell("doubled", config["x"])
        self.tell("began", config["x"])
        running = self.tell("running", config["x"])
        result = self.stepped(config)
        running.unlink()
        return result

    def stepped(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """All steps, from the checkpoint on; each hashes what the one before it has made."""
        checkpoint = self.checkpoint(config)
        done, made = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0, str(config["x"]))
        for step in range(done, self.steps):
            self.tell("step", config["x"])
            time.sleep(self.seconds / self.steps)
            made = hashlib.sha256(made.encode()).hexdigest()
            write_json(checkpoint, [step + 1, made])
        return {"square": config["x"] ** 2, "made": made}

    def checkpoint(self, config: Mapping[str, Any]) -> Path:
        return self.folder / f"checkpoint.{config['x']}"

    def stored(self, cell: Cell) -> None:
        self.tell("kept", cell.config["x"])
        self.checkpoint(cell.config).unlink(missing_ok=True)

    def tell(self, what: str, x: int) -> Path:
        file = self.folder / f"{what}-{x}-{os.getpid()}-{time.time_ns()}"
        file.touch()
        return file

    def told(self, what: str) -> list[tuple[int, int]]:
        """Cells and the processes that wrote of them, in the order of time."""
        found = sorted(self.folder.glob(f"{what}-*"), key=lambda f: int(f.name.split("-")[-1]))
        return [(int(f.name.split("-")[1]), int(f.name.split("-")[2])) for f in found]


def squares(count: int) -> Sequence[Cell]:
    return [Cell({"x": x}, f"square {x}") for x in range(count)]
