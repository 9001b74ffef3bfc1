"""Location behind global average pooling: can a network tell where a picture lies once positions are averaged away?

A picture lies in one of grid x grid cells of a canvas; a network that ends in global average pooling and a linear layer
tells which. Source: Islam et al., ICCV 2021 [islam2021], who find 100 % at grid 3 with a ResNet-18. Deviations: our
networks are small, trained from scratch on fewer pictures, each in a new cell every epoch; a control is trained on the
cells of other pictures; and circular padding, with which a canvas has no border, is a row of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from whatwhere.data import Data, Split, load_data
from whatwhere.errors import InputError
from whatwhere.network import Preprocessing
from whatwhere.report.page import Report, Table
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.studies.position.location_cell import ROWS, Bench, build, unpasted
from whatwhere.studies.rows import (
    ONE_SEED,
    SEEDS,
    Row,
    RowsResult,
    accuracy,
    checked_counts,
    checked_names,
    checked_seeds,
    folder_or_temporary,
)
from whatwhere.training.recipes import Recipe


@dataclass(frozen=True)
class LocationResult(RowsResult):
    """How often the cell is told right, for each row."""

    kind: ClassVar[str] = "location"
    plotted: ClassVar[tuple[str, ...]] = ("accuracy",)

    @property
    def grid(self) -> int:
        """Cells in a row and in a column of the canvas."""
        return int(self.settings["grid"])

    @property
    def chance(self) -> float:
        """One cell of all."""
        return 1 / self.grid**2

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return verdict(self.rows, self.chance)

    @property
    def title(self) -> str:
        """Above the figure."""
        return f"{self.settings['model']}: which of {self.grid**2} cells holds the picture?"

    def report(self) -> Report:
        """The page's content."""
        return Report(
            title="Does global average pooling delete absolute position?",
            lead=f"A picture lies in one of {self.grid} x {self.grid} cells of a canvas; a network that ends in global "
            "average pooling and a linear layer is trained to tell which.",
            figures={"location": self.plot()},
            tables=[Table("How often the cell is told right", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


NOTES = (
    "The canvas is 0 in normalised space, just as zero padding is: its border is told by padding alone.",
    "Circular padding leaves the canvas without a border: its row must be at chance, and so must the control.",
    "Channels are permuted anew for every batch, in training and in testing: what is left is what the unordered values "
    "of the pooled channels tell.",
    "Batch norm uses its running statistics in the second half of training, in every row (our deviation): trained to "
    "the end on batch statistics, some networks knew the place with those and not with the running ones.",
)


def location_test(
    data: Data | str | os.PathLike[str],
    *,
    grid: int = 3,
    model: str = "cifar/resnet20",
    width: float = 0.25,
    rows: Sequence[str] = ("zeros", "circular", "permute", "shuffled"),
    seeds: Iterable[int] = (0,),
    pictures: int = 1024,
    test_pictures: int = 1000,
    epochs: int = 6,
    batch_size: int = 32,
    lr: float = 3e-3,
    out: str | os.PathLike[str] | None = None,
    workers: int = 0,
    quiet: bool = False,
) -> LocationResult:
    """Train networks to tell in which cell of a canvas a picture lies, from globally averaged features.

    >>> ww.location_test("hf/uoft-cs/cifar100", seeds=(0, 1, 2), out="location", workers=2)

    Every network is a cell of the study, written when it is finished; an interrupted call goes on with the same `out`,
    and rows and seeds may be added later.

    Args:
        data: pictures of one size, or their name; labels do not matter.
        grid: cells in a row and in a column of the canvas, at least 2; chance is 1 / grid².
        model: a network by name that ends in a global average pool, (N, C, grid * H, grid * W) to scores.
        width: width factor of `cifar/…` networks.
        rows: `zeros`, `circular`, `permute` (zeros, channels permuted), `shuffled` (the control); `reflect` and
            `replicate`.
        seeds: of weights, order and places; at least two for intervals that hold the noise of training.
        pictures: to train on, of the training split.
        test_pictures: to test on, of the test split.
        epochs: passes; each puts every picture into a new cell.
        batch_size: pictures a step.
        lr: peak learning rate of AdamW's one cycle.
        out: folder for cells and the result; None keeps nothing.
        workers: processes that run cells side by side; 0 runs them in this one.
        quiet: print no progress.

    Raises:
        InputError: for anything unknown or out of range, before anything runs; for a folder that holds another study.
    """
    names, given = checked_names("rows", rows, ROWS), checked_seeds(seeds)
    checked_counts(pictures=pictures, test_pictures=test_pictures, epochs=epochs, batch_size=batch_size)
    if not isinstance(grid, int) or grid < 2:
        raise InputError(f"grid={grid!r}: give a whole number of at least 2; one cell alone tells nothing.")
    loaded, started = load_data(data), time.perf_counter()
    train, test = loaded.train.take(pictures), loaded.test.take(test_pictures)
    recipe = _recipe(epochs, batch_size, lr, len(train))
    shared: dict[str, Any] = {
        "model": model, "width": width, "grid": grid, "recipe": recipe.to_dict(),
        "data": {"train": train.fingerprint, "test": test.fingerprint},
    }  # fmt: skip
    cells = {(row, s): _cell(row, s, shared) for s in given for row in names}
    bench, preprocessing = _bench(cells.values(), train, test)
    with folder_or_temporary(out) as folder:
        store = Store(folder, {"study": "location", **shared})
        run_cells(list(cells.values()), bench, store, workers=workers, quiet=quiet)
        found = tuple(_row(row, [store.load(cells[row, s]) for s in given]) for row in names)
    result = LocationResult(
        found,
        data={**loaded.describe(), "train pictures": len(train), "test pictures": len(test)},
        settings={**shared, "seeds": given, "preprocessing": preprocessing.to_dict()},
        notes=(SEEDS if len(given) > 1 else ONE_SEED, *NOTES),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip
    if out is not None:
        result.save(out)
    return result


def _recipe(epochs: int, batch_size: int, lr: float, pictures: int) -> Recipe:
    if batch_size > pictures:
        raise InputError(f"batch_size={batch_size} is more than the {pictures} training pictures; give a smaller one.")
    return Recipe(
        epochs=epochs, batch_size=batch_size, optimizer="adamw", lr=lr, weight_decay=0.01, crop_padding=0, flip=False,
        precision="bf16-mixed",
    )  # fmt: skip


def _cell(row: str, seed: int, shared: dict[str, Any]) -> Cell:
    return Cell({"do": "location", "row": row, "seed": seed, **shared}, f"{row}, seed {seed}")


def _bench(cells: Iterable[Cell], train: Split, test: Split) -> tuple[Bench, Preprocessing]:
    """The pictures as every cell needs them; each row's network is built once, so that none fails later."""
    by_row = {c.config["row"]: c.config for c in cells}
    preprocessing = unpasted(next(iter(by_row.values()))).preprocessing
    for config in by_row.values():
        build(config, train.shape(preprocessing))
    return Bench(_pictures(train, preprocessing), _pictures(test, preprocessing)), preprocessing


def _pictures(split: Split, preprocessing: Preprocessing) -> Tensor:
    parts = [preprocessing.normalise(images) for images, _ in split.batches(256, geometry=preprocessing)]
    return torch.cat(parts).contiguous()


def _row(row: str, found: Sequence[dict[str, Any]]) -> Row:
    n = found[0]["n"]
    right = [r["right"] for r in found]
    return Row(row, ROWS[row].label, {"accuracy": accuracy(right, n)}, {"accuracy": tuple(r / n for r in right)})


def verdict(rows: Iterable[Row], chance: float) -> str:
    """Which rows tell the cell better than chance, and which cannot be told from it."""
    kinds: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        e = row.measured["accuracy"]
        kinds[e.low > chance].append(f"{row.label} ({100 * e.mean:.1f} %)")
    texts = {
        True: "The cell is told better than chance by", False: f"Not told from chance ({100 * chance:.1f} %) are"
    }  # fmt: skip
    return " ".join(f"{texts[k]} {', '.join(kinds[k])}." for k in texts if kinds[k])
