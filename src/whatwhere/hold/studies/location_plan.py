"""The plan of the location test: a cell is one network, a row and a seed.

Source: Islam et al., ICCV 2021 [islam2021], who find 100 % at grid 3 with a ResNet-18. Deviations: our networks are
small, trained from scratch on fewer pictures, each in a new square every epoch; a control is trained on the squares of
other pictures; and circular padding, with which a canvas has no border, is a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from whatwhere.data import Split
from whatwhere.errors import InputError
from whatwhere.hold.studies.location import Location
from whatwhere.hold.studies.location_result import LocationResult
from whatwhere.hold.studies.location_worker import ROWS, LocationWorker, build, unpasted
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.packed import unpack
from whatwhere.lab.rows import (
    ONE_SEED,
    SEEDS,
    Row,
    accuracy,
    accuracy_of_counts,
    checked_counts,
    checked_names,
    checked_seeds,
)
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.network import Preprocessing
from whatwhere.training.recipes import Recipe

NOTES = (
    "The canvas is 0 in normalised space, as zero padding is: only padding reveals its border.",
    "Circular padding leaves the canvas without a border: its row must be at chance, and so must the control.",
    "Channels are permuted anew for every batch, in training and in testing: what remains is what the unordered values "
    "of the pooled channels reveal.",
    "Batch norm uses its running statistics in the second half of training, in every row (our deviation): trained to "
    "the end on batch statistics, some networks predicted the square with those and not with the running ones.",
)


class LocationPlan(Plan[Location, LocationResult]):
    """A cell is one network: a row and a seed.

    Raises:
        InputError: for an unknown row, or numbers that cannot be.
    """

    def __init__(self, study: Location) -> None:
        super().__init__(study)
        self.rows = checked_names("rows", as_tuple(study.rows), ROWS)
        self.seeds = checked_seeds(as_tuple(study.seeds))
        checked_counts(
            pictures=study.pictures,
            test_pictures=study.test_pictures,
            epochs=study.epochs,
            batch_size=study.batch_size,
        )
        if not isinstance(study.grid, int) or study.grid < 2:
            raise InputError(f"grid={study.grid!r}: give a whole number of at least 2; a single square has no where.")

    @cached_property
    def train(self) -> Split:
        """The pictures to train on."""
        return self.study.data_source.data.train.take(self.study.pictures)

    @cached_property
    def test(self) -> Split:
        """The pictures to test on."""
        return self.study.data_source.data.test.take(self.study.test_pictures)

    @property
    def measured(self) -> list[Split]:
        """The splits that its numbers come from."""
        return [self.train, self.test]

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Of the pictures; every row has the same."""
        return unpasted(self.cell(self.rows[0], self.seeds[0]).config).preprocessing

    @cached_property
    def _shared(self) -> dict[str, Any]:
        o = self.study
        return {
            "model": o.model,
            "width": o.width,
            "grid": o.grid,
            "recipe": recipe_of(o.epochs, o.batch_size, o.lr, len(self.train)).to_dict(),
            "data": {"train": self.train.fingerprint, "test": self.test.fingerprint},
        }

    def shared(self) -> Mapping[str, Any]:
        """The network, the grid, the recipe and the pictures."""
        return self._shared

    def cell(self, row: str, seed: int) -> Cell:
        """The cell that trains one network."""
        return Cell({"do": "location", "row": row, "seed": seed, **self._shared}, f"{row}, seed {seed}")

    def cells(self, done: Finished) -> Iterable[Cell]:
        """A network for each seed and row."""
        return [self.cell(row, seed) for seed in self.seeds for row in self.rows]

    def check(self, how: Run) -> None:
        """What cannot be built is refused before anything is trained."""
        for row in self.rows:
            build(self.cell(row, self.seeds[0]).config, self.train.shape(self.preprocessing))

    def worker(self, how: Run) -> LocationWorker:
        """Trains and tests one network."""
        o = self.study
        return LocationWorker(o.data_source, o.pictures, o.test_pictures, self.preprocessing, how.device)

    def fold(self, done: Finished) -> LocationResult:
        """Rows over the seeds that were asked for and are finished.

        Raises:
            InputError: if there are none.
        """
        found = {row: [done[c] for s in self.seeds if (c := self.cell(row, s)) in done] for row in self.rows}
        rows = tuple(row_of(row, results) for row, results in found.items() if results)
        if not rows:
            raise InputError("no cell is finished; run the study without fold_only.")
        data, counts = self.study.data_source.data, (len(self.train), len(self.test))
        return LocationResult(
            rows,
            data={**data.describe(), "train pictures": counts[0], "test pictures": counts[1]},
            settings={**self._shared, "seeds": self.seeds, "preprocessing": self.preprocessing.to_dict()},
            notes=(SEEDS if max(map(len, found.values())) > 1 else ONE_SEED, *NOTES, *done.notes()),
        )


def recipe_of(epochs: int, batch_size: int, lr: float, pictures: int) -> Recipe:
    """How every network is trained.

    Raises:
        InputError: for a batch that is larger than the pictures, or a value out of range.
    """
    if batch_size > pictures:
        raise InputError(f"batch_size={batch_size} is more than the {pictures} training pictures; give a smaller one.")
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adamw",
        lr=lr,
        weight_decay=0.01,
        crop_padding=0,
        flip=False,
        precision="bf16-mixed",
    )


def row_of(row: str, found: Sequence[Mapping[str, Any]]) -> Row:
    """A row, from the results of its seeds."""
    n, right = found[0]["n"], [r["right"] for r in found]
    if all("hits" in r for r in found):
        measured = accuracy(np.array([unpack(r["hits"]) for r in found], bool))
    else:  # a folder of an earlier version
        measured = accuracy_of_counts(right, n, same=True)
    return Row(row, ROWS[row].label, {"accuracy": measured}, {"accuracy": tuple(r / n for r in right)})
