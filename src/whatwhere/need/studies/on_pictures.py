"""What workers at test time share: which pictures, which network, and where what a cell has measured is kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from whatwhere.data import Data
from whatwhere.data.boxes import Boxes, BoxSplit
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.lab.cells import Cell
from whatwhere.lab.once import PreparedOnce
from whatwhere.lab.sources import GivenData, GivenNetwork, Held, place
from whatwhere.need.studies.chunk import AnySplit
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score
from whatwhere.surgery import copied

AnyData: TypeAlias = Data | Scenes | Boxes


@dataclass(frozen=True, kw_only=True)
class OnPictures(PreparedOnce):
    """Measures a network on test pictures; what a cell under way has measured is kept in the study's folder.

    Attributes:
        network: where it is.
        pictures: where they are.
        limit: of test pictures.
        seed: of the draws.
        batch_size: pictures in a forward pass.
        folder: of the study.
        study: stands for all that the cells of the folder share.
        device: for a network by name; `auto` leaves an object where it is.
        score: that is measured.
    """

    network: GivenNetwork
    pictures: GivenData
    limit: int | None
    seed: int
    batch_size: int
    folder: Path
    study: str
    device: str = "auto"
    score: Score = ACCURACY

    @cached_property
    def split(self) -> AnySplit:
        """The test pictures."""
        return limited(self.pictures.given, self.limit).test

    @cached_property
    def net(self) -> Network:
        """The network, on its device."""
        return placed(self.network, self.split, self.device)

    def kept(self, cell: Cell) -> Path:
        """Where a cell's parts are until its result is stored."""
        return self.folder / "checkpoints" / f"{cell.key}.json"

    def stored(self, cell: Cell) -> None:
        """A cell whose result is stored needs no parts."""
        self.kept(cell).unlink(missing_ok=True)


def limited(data: AnyData, limit: int | None) -> AnyData:
    """The pictures, or the test split alone with at most so many of them, balanced over the classes of pictures."""
    few: Any = None if limit is None else {"test": data.test.take(limit)}  # of any kind
    return data if few is None else replace(data, splits=few)


def check_steady(data: AnyData) -> None:
    """Refuse pictures that another run would have in another order.

    Raises:
        InputError: saying what to give.
    """
    if data.test.unsteady:
        raise InputError(
            f"data: the DataLoader {data.test.unsteady}, and pictures are compared one by one over several runs; "
            "give its Dataset (load_data(loader.dataset)), or a DataLoader in a fixed order."
        )


def sized(net: Network, split: AnySplit) -> Network:
    """A network that knows the size of its pictures; if it has none, that of the data.

    Scenes and pictures with boxes are never resized.
    """
    known = net.input_size and not isinstance(split, SceneSplit | BoxSplit)
    return net if known else replace(net, input_size=split.shape(net.preprocessing))


def placed(source: GivenNetwork, split: AnySplit, device: str) -> Network:
    """The network that knows its pictures' size, on the device; one given as an object is never moved itself."""
    net = sized(source.net, split)
    if not isinstance(source.source, Held):
        return place(net, device)
    return net if device == "auto" else place(replace(net, module=copied(net.module)), device)
