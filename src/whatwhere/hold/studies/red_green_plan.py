"""The plan of the Red-Green test: a cell is one small network, a padding and a seed.

Source: [kayhan2020], table 1, and the authors' published code, read for facts. Deviation: every seed draws its own
pictures (see `red_green_data`), so that the interval contains that noise too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from whatwhere.errors import InputError
from whatwhere.hold.studies.red_green import RedGreen
from whatwhere.hold.studies.red_green_data import CLASSES
from whatwhere.hold.studies.red_green_result import RedGreenResult
from whatwhere.hold.studies.red_green_worker import (
    BATCH,
    CHANNELS,
    OPTIMIZER,
    PADDINGS,
    PATIENCE,
    STRIDES,
    RedGreenWorker,
)
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import (
    ONE_SEED,
    OWN_PICTURES,
    Row,
    accuracy_of_counts,
    checked_counts,
    checked_names,
    checked_seeds,
    difference_of_counts,
)
from whatwhere.lab.study import Finished, Plan, Run

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
NOTES = (
    "Dissimilar pictures are the similar ones moved by 16 rows, so the difference is paired.",
    "With circular padding 16 rows are whole steps of the total stride, 8: similar and dissimilar answers are the same "
    "by construction. Left and right wrap around too, so part of the pictures are undecidable.",
    "Published values are those of ten seeds in Kayhan & van Gemert 2020; in their published code the similar test "
    "pictures are among the training pictures, here they are not.",
)


class RedGreenPlan(Plan[RedGreen, RedGreenResult]):
    """A cell is one small network: a padding and a seed.

    Raises:
        InputError: for an unknown padding, or numbers that cannot be.
    """

    def __init__(self, study: RedGreen) -> None:
        super().__init__(study)
        self.paddings = checked_names("paddings", as_tuple(study.paddings), PADDINGS)
        self.seeds = checked_seeds(as_tuple(study.seeds))
        self.pictures = checked_pictures(study.pictures)
        checked_counts(epochs=study.epochs)

    @property
    def logs(self) -> bool:
        """Its trainings are logged."""
        return True

    def shared(self) -> Mapping[str, Any]:
        """Epochs, and how many pictures there are."""
        return {"epochs": self.study.epochs, "pictures": self.pictures}

    def cell(self, padding: str, seed: int) -> Cell:
        """The cell that trains one network."""
        config = {"do": "red-green", "padding": padding, "seed": seed, **self.shared()}
        return Cell(config, f"{padding}, seed {seed}")

    def cells(self, done: Finished) -> Iterable[Cell]:
        """A network for each seed and padding."""
        return [self.cell(padding, seed) for seed in self.seeds for padding in self.paddings]

    def worker(self, how: Run) -> RedGreenWorker:
        """Trains and tests one network."""
        return RedGreenWorker(how.device)

    def fold(self, done: Finished) -> RedGreenResult:
        """A row for each padding, over the seeds that were asked for and are finished.

        Raises:
            InputError: if there are none.
        """
        found = {p: [done[c] for s in self.seeds if (c := self.cell(p, s)) in done] for p in self.paddings}
        rows = tuple(row_of(padding, results) for padding, results in found.items() if results)
        if not rows:
            raise InputError("no cell is finished; run the study without fold_only.")
        return RedGreenResult(
            rows,
            data={"name": "red-green", "classes": CLASSES, "train, validation, test": self.pictures},
            settings={
                "seeds": self.seeds,
                "epochs": self.study.epochs,
                "channels": CHANNELS,
                "strides": STRIDES,
                "batch_size": BATCH,
                "patience": PATIENCE,
                "optimizer": {"name": "Adadelta", **OPTIMIZER},
            },
            notes=(OWN_PICTURES if max(map(len, found.values())) > 1 else ONE_SEED, *NOTES, *done.notes()),
        )


def checked_pictures(pictures: Sequence[int]) -> list[int]:
    """Three numbers of pictures.

    Raises:
        InputError: for anything else.
    """
    if (
        not isinstance(pictures, Sequence)
        or len(pictures) != 3
        or not all(isinstance(n, int) and n >= 2 for n in pictures)
    ):
        raise InputError(f"pictures={pictures!r}: give three whole numbers of at least 2: train, validation, test.")
    return list(pictures)


def row_of(padding: str, found: Sequence[Mapping[str, Any]]) -> Row:
    """The row of a padding, from the results of its seeds."""
    n = found[0]["n"]
    gap = difference_of_counts([r["similar_only"] for r in found], [r["dissimilar_only"] for r in found], n)
    sides = {side: [r[side] for r in found] for side in ("similar", "dissimilar")}
    shares = {side: tuple(right / n for right in rights) for side, rights in sides.items()}
    gaps = tuple(a - b for a, b in zip(shares["similar"], shares["dissimilar"], strict=True))
    published = dict(zip(("similar", "dissimilar"), PUBLISHED.get(padding, ()), strict=False))
    return Row(
        padding,
        LABELS[padding],
        {**{side: accuracy_of_counts(rights, n) for side, rights in sides.items()}, "gap": gap},
        {**shares, "gap": gaps},
        published,
    )
