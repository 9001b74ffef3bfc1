"""The study of `engines.py`: tiny trainings that tell who ran them. Started as a command by it, again and again."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import nn

from small_process import Telling, squares  # in tests/
from whatwhere.data.sources import Memory
from whatwhere.data.split import Split
from whatwhere.fingerprints import fingerprint
from whatwhere.lab.cells import Cell
from whatwhere.lab.result import Result
from whatwhere.lab.study import Finished, Plan, Run, Study
from whatwhere.network import Network
from whatwhere.report.page import Report, Table
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe


def pictures() -> Split:
    """(64, 3, 8, 8) of noise, with two labels."""
    draws = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (64, 3, 8, 8), generator=draws, dtype=torch.uint8)
    return Split("train", Memory(noise), torch.arange(64) % 2, ("even", "odd"))


def network(seed: int) -> Network:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
    return Network(nn.Sequential(*layers), input_size=(3, 8, 8))


@dataclass(frozen=True)
class Trained(Telling):
    """Its steps are epochs of a training."""

    def stepped(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Train from the checkpoint on, with a pause after each epoch, so that kills fall into trainings."""
        net = network(config["x"])

        def epoch(_: Network) -> dict[str, float]:
            self.tell("step", config["x"])
            time.sleep(self.seconds / self.steps)
            return {}

        recipe = Recipe(epochs=self.steps, batch_size=32, lr=0.1, crop_padding=0, flip=False)
        file = self.checkpoint(config)
        history = fit(net, pictures(), recipe, seed=config["x"], device="cpu", file=file, until=epoch)
        return {"weights": fingerprint(net.module), "loss": history.epochs[-1]["loss"]}


@dataclass(frozen=True)
class TinyResult(Result):
    """A row for each training."""

    kind: ClassVar[str] = "tiny"

    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = 1

    @property
    def conclusion(self) -> str:
        """How many."""
        return f"{len(self.rows)} trainings."

    def records(self) -> Iterable[Mapping[str, Any]]:
        """The rows."""
        return self.rows

    def table(self) -> list[dict[str, Any]]:
        """The rows."""
        return [dict(r) for r in self.rows]

    def plot(self) -> Figure:
        """None."""
        return Figure()

    def report(self, folder: Path | None = None) -> Report:
        """The table."""
        return Report("Tiny", "A benchmark.", {}, [Table("All", self.table())], self.notes, self.conclusion)


class TinyPlan(Plan["Tiny", TinyResult]):
    """A cell for each training."""

    def shared(self) -> Mapping[str, Any]:
        """The steps."""
        return {"steps": self.study.steps}

    def cells(self, done: Finished) -> list[Cell]:
        """All."""
        return squares(self.study.count)

    def worker(self, how: Run) -> Trained:
        """Trains."""
        return Trained(how.folder.absolute() / "told", self.study.seconds, self.study.steps)

    def fold(self, done: Finished) -> TinyResult:
        """By number."""
        rows = sorted(({"x": c["x"], **r} for c, r in done), key=lambda row: row["x"])
        return TinyResult(tuple(rows), tuple(done.notes()))


@dataclass(frozen=True)
class Tiny(Study[TinyResult]):
    """So many trainings of so many seconds."""

    kind: ClassVar[str] = "tiny"
    plan: ClassVar[type[Plan[Any, Any]]] = TinyPlan
    result: ClassVar[type[Result]] = TinyResult

    count: int = 12
    seconds: float = 2.0
    steps: int = 8


def main(words: list[str]) -> None:
    """What `engines.py` starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--engine")
    args = parser.parse_args(words)
    study = Tiny(args.count, args.seconds, args.steps)
    study.run(args.out, workers=args.workers, engine=args.engine, quiet=True, device="cpu")
