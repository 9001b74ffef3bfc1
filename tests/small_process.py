"""Processes that start in a moment, and cells that tell who ran them: for tests of what several processes do at once."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import whatwhere
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


def gone(pid: int, seconds: float = 20) -> bool:
    """Whether a process ends; one that nobody has waited for (a zombie) has ended too."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@dataclass(frozen=True)
class Telling(Worker):
    """Writes who runs a cell and when, goes on from a checkpoint of its steps, and takes a while."""

    folder: Path
    seconds: float = 0.1

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.folder.mkdir(exist_ok=True)
        cell, checkpoint = Cell(config), self.folder / f"checkpoint-{config['x']}"
        (self.folder / f"began-{config['x']}-{os.getpid()}-{time.time_ns()}").write_text(cell.key)
        for step in range(int(checkpoint.read_text() or 0) if checkpoint.exists() else 0, 4):
            (self.folder / f"step-{config['x']}-{step}-{os.getpid()}-{time.time_ns()}").touch()
            time.sleep(self.seconds / 4)
            checkpoint.write_text(str(step + 1))
        return {"square": config["x"] ** 2}

    def stored(self, cell: Cell) -> None:
        (self.folder / f"kept-{cell.config['x']}-{os.getpid()}-{time.time_ns()}").touch()

    def told(self, what: str) -> list[tuple[int, int]]:
        """Cells and the processes that wrote of them, in the order of time."""
        found = sorted(self.folder.glob(f"{what}-*"), key=lambda f: int(f.name.split("-")[-1]))
        return [(int(f.name.split("-")[1]), int(f.name.split("-")[-2])) for f in found]


def squares(count: int) -> Sequence[Cell]:
    return [Cell({"x": x}, f"square {x}") for x in range(count)]
