"""The plan of the read-out: a cell is one network, the given one or a control; their scores are folded into rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from whatwhere.data import Data
from whatwhere.errors import InputError, unknown
from whatwhere.hold.features import RGB, taps_of
from whatwhere.hold.official import Official
from whatwhere.hold.ridge import output_size
from whatwhere.hold.studies.conclude import conclude
from whatwhere.hold.studies.fold import folded_rows, gallery_of
from whatwhere.hold.studies.pictures import Pictures, pictures_of
from whatwhere.hold.studies.reading import Reading
from whatwhere.hold.studies.readout import BLANKS, Readout
from whatwhere.hold.studies.readout_result import ReadoutResult, Row
from whatwhere.hold.studies.readout_worker import ReadoutWorker
from whatwhere.hold.studies.solving import ITERATED, ways
from whatwhere.hold.studies.token_controls import NOTES as NOTES_OF
from whatwhere.hold.studies.token_controls import token_controls
from whatwhere.hold.studies.variants import GIVEN, Shape, Variant, cell_of, identity, possible, sized, variants_of
from whatwhere.hold.targets import targets_of
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import checked_counts
from whatwhere.lab.sources import GivenData
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import RANDOM, random_weights
from whatwhere.network import Network

READOUTS, RANGES = ("ridge", "official"), ("0..1", "-1..1")
FEW = 40  # test pictures
PADDED = ("circular", "reflect", "replicate")
NOTES = (
    "Shuffled positions: fitted and tested on targets whose positions are in a random order for each picture. This "
    "shows that the procedure and the score find nothing where there is nothing; it says nothing about the network.",
    "Best sites are chosen on the test pictures themselves, so their scores are slightly too high.",
)


class ReadoutPlan(Plan[Readout, ReadoutResult]):
    """A cell is one network: the given one, an untrained one, or one with another padding.

    Raises:
        InputError: for options that cannot work.
    """

    def __init__(self, study: Readout) -> None:
        super().__init__(study)
        which = [study.targets] if isinstance(study.targets, str) else study.targets
        self.kernels, self.readouts, self.blanks = map(as_tuple, (study.kernels, study.readouts, study.blanks))
        checked_counts(batch_size=study.batch_size)
        check_choices(self.readouts, self.blanks, study.target_range)
        check_sizes(self.kernels, study.size, study.readout_padding)
        self.targets = tuple(targets_of(which, range=study.target_range))
        self.official = study.official or Official(layers=study.layers)
        paddings = PADDED if study.paddings is None else as_tuple(study.paddings)
        self.asked = variants_of(study.untrained, paddings)

    @property
    def logs(self) -> bool:
        """Whether a read-out is trained."""
        return "official" in self.readouts

    @cached_property
    def data(self) -> Data:
        """The pictures to fit on."""
        return self.study.data_source.data

    @cached_property
    def test_source(self) -> GivenData | None:
        """Where other pictures to test on are."""
        return None if self.study.test_data is None else GivenData.of(self.study.test_data)

    @cached_property
    def test_data(self) -> Data | None:
        """Other pictures to test on."""
        return self.test_source.data if self.test_source else None

    @cached_property
    def net(self) -> Network:
        """The given network."""
        return sized(self.study.network_source.net, self.study.input_size)

    @cached_property
    def reading(self) -> Reading:
        """What is read out."""
        o = self.study
        chosen = pictures_of(self.data, self.test_data, o.pictures, o.test_pictures, o.seed)
        return Reading(
            pictures=chosen,
            sites=self._sites(shape_of(chosen, self.net, o.input_size)),
            targets=self.targets,
            kernels=self.kernels,
            readouts=self.readouts,
            blanks=self.blanks,
            padding=o.readout_padding,
            size=o.size,
            official=self.official,
            seed=o.seed,
            batch=o.batch_size,
        )

    def _sites(self, shape: Shape) -> tuple[str, ...]:
        """Chosen once, in the given network; empty for the raw input alone."""
        which = self.study.sites
        if which in (RGB, (RGB,), [RGB]):
            return ()
        return tuple(t.name for t in taps_of(self.net, which, input_size=shape))

    @cached_property
    def _possible(self) -> tuple[list[Variant], list[str]]:
        shape = self.reading.shape(self.net)
        found, notes = possible(self.asked, self.net, shape, strict=self.study.paddings is not None)
        asked = self.study.token_controls and self.reading.sites
        controls = [Variant(kind) for kind in token_controls(self.net, shape)] if asked else []
        return [*found, *controls], [*notes, *(NOTES_OF[v.kind] for v in controls)]

    def shared(self) -> Mapping[str, Any]:
        """The network, the pictures and what is read out."""
        return {
            **identity(self.net),
            "pictures": self.reading.pictures.describe(),
            "plan": self.described,
        }

    @cached_property
    def described(self) -> dict[str, Any]:
        """What is read out, in plain values; how many columns are solved is said, as their numbers differ a little."""
        plain = self.reading.describe()
        if "ridge" in self.readouts and ways(self.reading.groups(self.net)[1], self.reading).iterated:
            plain["measured"] += f"; {ITERATED}"
        return plain

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The given network and its controls, as far as it can have them."""
        return [cell_of(variant) for variant in self._possible[0]]

    def worker(self, how: Run) -> ReadoutWorker:
        """Measures one network."""
        o = self.study
        most, read = (o.pictures, o.test_pictures), json.dumps(self.reading.describe())
        given = (o.network_source, o.data_source, self.test_source)
        return ReadoutWorker(*given, o.input_size, most, read, how.device)

    def fold(self, done: Finished) -> ReadoutResult:
        """Rows of every network that was asked for and is finished.

        Raises:
            InputError: if the given network is not among them.
        """
        cells = [(v, done[cell]) for v in self._possible[0] if (cell := cell_of(v)) in done]
        if not cells or cells[0][0].kind != GIVEN:
            raise InputError("the given network is not measured yet; run the study without fold_only.")
        rows = tuple(folded_rows(cells, self.reading))
        measured = [note for _, cell in cells for note in cell["notes"]]
        return ReadoutResult(
            network=self.net.name,
            data={
                "name": self.data.name,
                "fit": self.data.describe(),
                "test": (self.test_data or self.data).describe(),
            },
            preprocessing=self.net.preprocessing.to_dict(),
            settings=self._settings(),
            rows=rows,
            gallery=gallery_of(cells, self.reading, self.net),
            conclusion=" ".join([conclude(rows), *self._random(rows)]),
            notes=tuple(dict.fromkeys([*self._notes(), *measured, *done.notes()])),
        )

    def _random(self, rows: Sequence[Row]) -> Iterable[str]:
        """Of a network that was not trained: what a difference from untrained ones is."""
        if any(RANDOM in note for note in random_weights(self.net)) and any(r.above_untrained for r in rows):
            yield (
                "It was not trained itself: what it has more or less than the untrained networks is how weights were "
                "drawn (theirs by each layer's own reset_parameters)."
            )

    def _settings(self) -> dict[str, Any]:
        return {
            **self.described,
            "pictures": self.reading.pictures.describe(),
            "untrained": self.study.untrained,
            "paddings": [v.mode for v in self.asked if v.mode],
        }

    def _notes(self) -> Iterable[str]:
        yield from random_weights(self.net)
        yield from NOTES
        if len(self.reading.pictures.test) < FEW:
            yield f"Fewer than {FEW} test pictures: where some are read far worse, 95 % intervals hold 88 to 93 %."
        if self.test_data is not None and self.test_data.test.fingerprint == _fitted(self.data):
            yield "The read-outs were fitted to the test pictures themselves: scores are too high."
        yield from self._possible[1]


def _fitted(data: Data) -> str:
    """The fingerprint of the split that is fitted to."""
    return data.splits.get("train", next(iter(data.splits.values()))).fingerprint


def shape_of(pictures: Pictures, net: Network, side: int | None) -> Shape:
    """(C, H, W) of a prepared picture.

    Raises:
        InputError: for prepared tensors of another height and width than `side`.
    """
    shape = pictures.fit.shape(net.preprocessing)
    if side is not None and shape[1:] != (side, side):
        raise InputError(f"input_size={side}: these pictures are prepared tensors of {shape}; resize them yourself.")
    return shape


def check_choices(readouts: Sequence[str], blanks: Sequence[str], target_range: str) -> None:
    """Refuse unknown names.

    Raises:
        InputError: with the known ones.
    """
    for given, known, name in (
        (readouts, READOUTS, "readouts"),
        (blanks, BLANKS, "blanks"),
        ([target_range], RANGES, "target_range"),
    ):
        for value in given:
            if value not in known:
                raise unknown(name, str(value), known)
    if not readouts:
        raise InputError("readouts is empty; give at least one of ridge, official.")


def check_sizes(kernels: Sequence[int], size: int, padding: int) -> None:
    """Refuse kernels that do not fit.

    Raises:
        InputError: for a kernel or padding that cannot be, or if there is no kernel.
    """
    if padding < 0:
        raise InputError(f"readout_padding={padding}: give a number of zeros on each side, 0 for none.")
    if not kernels:
        raise InputError("kernels is empty; give at least one, such as 3.")
    for kernel in kernels:
        output_size(size, kernel, padding)
