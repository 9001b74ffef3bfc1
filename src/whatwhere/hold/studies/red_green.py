"""The Red-Green test: which paddings let a small network exploit where things are?

The class is which of two blocks is on the left; in training, their height gives it away too. A network that reads the
height is right on *similar* pictures and wrong on *dissimilar* ones, where the hint is turned round. Source:
[kayhan2020], table 1, and the authors' published code, read for facts. Deviations: every seed draws its own pictures
(see `red_green_data`), so that the interval holds that noise too; a network is one padding throughout, as theirs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from whatwhere.errors import InputError
from whatwhere.report.page import Report, Table
from whatwhere.runs.cells import Cell, Store
from whatwhere.runs.executors import run_cells
from whatwhere.runs.provenance import command, hardware, versions
from whatwhere.studies.position.red_green_cell import BATCH, CHANNELS, OPTIMIZER, PADDINGS, PATIENCE, STRIDES, run_cell
from whatwhere.studies.position.red_green_data import CLASSES
from whatwhere.studies.rows import (
    ONE_SEED,
    SEEDS,
    Row,
    RowsResult,
    accuracy,
    checked_counts,
    checked_names,
    checked_seeds,
    difference,
    folder_or_temporary,
)

MARGIN = 0.03  # similar and dissimilar this near are taken for equal
LABELS = {
    "none": "no padding (valid)",
    "zeros": "zeros, same size",
    "circular": "circular, same size",
    "f-conv": "F-Conv (zeros, k - 1)",
    "reflect": "reflect, same size",
    "replicate": "replicate, same size",
}
PUBLISHED = {  # similar, dissimilar
    "none": (1.0, 0.002),
    "zeros": (0.998, 0.084),
    "circular": (0.737, 0.737),
    "f-conv": (0.897, 0.897),
}


@dataclass(frozen=True)
class RedGreenResult(RowsResult):
    """Accuracy on similar and dissimilar pictures, and their paired difference, for each padding."""

    kind: ClassVar[str] = "red-green"
    plotted: ClassVar[tuple[str, ...]] = ("similar", "dissimilar")

    @property
    def chance(self) -> float:
        """Two classes in equal numbers."""
        return 1 / len(CLASSES)

    @property
    def conclusion(self) -> str:
        """What the rows say, in words."""
        return verdict(self.rows)

    @property
    def title(self) -> str:
        """Above the figure."""
        return "Red-Green: place agrees with the class (similar) or contradicts it (dissimilar)"

    def report(self) -> Report:
        """The page's content."""
        return Report(
            title="Which padding lets a convolutional network exploit absolute location?",
            lead="Small networks learn which of two blocks is on the left; in training, their height gives it away.",
            figures={"red-green": self.plot()},
            tables=[Table("Accuracy where place agrees with the class and where it contradicts it", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


def red_green(
    *,
    paddings: Sequence[str] = ("none", "zeros", "circular", "f-conv"),
    seeds: Iterable[int] = range(10),
    epochs: int = 50,
    pictures: tuple[int, int, int] = (2000, 1000, 1000),
    out: str | os.PathLike[str] | None = None,
    workers: int = 0,
    quiet: bool = False,
) -> RedGreenResult:
    """Train the paper's network with each padding and test whether it tells left from right or up from down.

    >>> ww.red_green(out="red-green", workers=2)

    Every network is a cell, written when it is finished; an interrupted call goes on with the same `out`, and
    paddings and seeds may be added later.

    Args:
        paddings: of all four convolutions: `none`, `zeros`, `circular`, `f-conv` (kernel - 1 zeros on each side), and,
            beyond the paper, `reflect` and `replicate`.
        seeds: of pictures and weights; at least two for intervals that hold the noise of training.
        epochs: passes over the training pictures at most; training stops 8 epochs after the best one.
        pictures: to train on, to choose the epoch by, and in either test set.
        out: folder for cells and the result; None keeps nothing.
        workers: processes that run cells side by side; 0 runs them in this one.
        quiet: print no progress.

    Raises:
        InputError: for an unknown padding, numbers below 1, or a folder that holds another study.
    """
    names, given = checked_names("paddings", paddings, PADDINGS), checked_seeds(seeds)
    checked_counts(epochs=epochs)
    shared = {"epochs": epochs, "pictures": _checked(pictures)}
    started = time.perf_counter()
    with folder_or_temporary(out) as folder:
        store = Store(folder, {"study": "red-green", **shared})
        cells = {(p, s): _cell(p, s, shared) for s in given for p in names}
        run_cells(list(cells.values()), run_cell, store, workers=workers, quiet=quiet)
        rows = tuple(_row(p, [store.load(cells[p, s]) for s in given]) for p in names)
    result = RedGreenResult(
        rows,
        data={"name": "red-green", "classes": CLASSES, "train, validation, test": shared["pictures"]},
        settings={
            "seeds": given, "epochs": epochs, "channels": CHANNELS, "strides": STRIDES, "batch_size": BATCH,
            "patience": PATIENCE, "optimizer": {"name": "Adadelta", **OPTIMIZER},
        },
        notes=(SEEDS if len(given) > 1 else ONE_SEED, *NOTES),
        provenance={
            "command": command(), "versions": versions(), "hardware": hardware(),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )  # fmt: skip
    if out is not None:
        result.save(out)
    return result


NOTES = (
    "Dissimilar pictures are the similar ones moved by 16 rows, so their difference is one between pairs.",
    "With circular padding 16 rows are whole steps of the total stride, 8: similar and dissimilar answers are the same "
    "by construction. Left and right wrap around too, which leaves part of the pictures undecidable.",
    "Published values are those of ten seeds in Kayhan & van Gemert 2020; their similar test pictures are among the "
    "training pictures in their published code, ours are not.",
)


def _checked(pictures: Sequence[int]) -> list[int]:
    if len(pictures) != 3 or not all(isinstance(n, int) and n >= 2 for n in pictures):
        raise InputError(
            f"pictures={tuple(pictures)}: give three whole numbers of at least 2: train, validation, test."
        )
    return list(pictures)


def _cell(padding: str, seed: int, shared: dict[str, Any]) -> Cell:
    return Cell({"do": "red-green", "padding": padding, "seed": seed, **shared}, f"{padding}, seed {seed}")


def _row(padding: str, found: Sequence[dict[str, Any]]) -> Row:
    n = found[0]["n"]
    gap = difference([r["similar_only"] for r in found], [r["dissimilar_only"] for r in found], n)
    sides = {side: [r[side] for r in found] for side in ("similar", "dissimilar")}
    shares = {side: tuple(right / n for right in rights) for side, rights in sides.items()}
    gaps = tuple(a - b for a, b in zip(shares["similar"], shares["dissimilar"], strict=True))
    published = dict(zip(("similar", "dissimilar"), PUBLISHED.get(padding, ()), strict=False))
    return Row(
        padding, LABELS[padding], {**{side: accuracy(rights, n) for side, rights in sides.items()}, "gap": gap},
        {**shares, "gap": gaps}, published,
    )  # fmt: skip


def verdict(rows: Iterable[Row]) -> str:
    """Which paddings let location in, in a sentence each for those that do, do not, and may."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        gap = row.measured["gap"]
        kind = "yes" if gap.low > MARGIN else "no" if max(-gap.low, gap.high) <= MARGIN else "open"
        kinds.setdefault(kind, []).append(f"{row.label} ({100 * gap.mean:.1f} points)")
    texts = {
        "yes": "Location is exploited with",
        "no": f"Location is not exploited (within {100 * MARGIN:.0f} points) with",
        "open": "It is not decided whether location is exploited with",
    }  # fmt: skip
    return " ".join(f"{texts[k]} {', '.join(kinds[k])}." for k in texts if k in kinds)
