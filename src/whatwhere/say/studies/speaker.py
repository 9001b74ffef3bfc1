"""A finished network with a supervised bottleneck, opened again: its concept maps of the test pictures, and edits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.cells import Cell, Store
from whatwhere.lab.study import Finished, Run
from whatwhere.label_maps import CLASS
from whatwhere.say.layer import Bottleneck, layer_of
from whatwhere.say.studies.compare import Compare
from whatwhere.say.studies.compare_cell import CompareWorker
from whatwhere.say.studies.compare_plan import ComparePlan
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.features import SiteFeatures
from whatwhere.say.studies.measure import BATCH, Cells, cells
from whatwhere.say.studies.sure import confidences
from whatwhere.say.tail import Tail
from whatwhere.site import evaluating
from whatwhere.training.objectives import at_size, score_maps

SPEAKING = "ssb"  # the kind that explains


@dataclass(frozen=True)
class Speaker:
    """The network with the supervised bottleneck at one site of a finished study.

    Attributes:
        study: the comparison, as it was run.
        folder: of its cells.
        site: of the bottleneck; None where the study has one site only.
        seed: of the cell.
        weights_folder: of features and weights; `folder` if not given.
    """

    study: Compare
    folder: str | os.PathLike[str]
    site: str | None = None
    seed: int = 0
    weights_folder: str | os.PathLike[str] | None = None

    @cached_property
    def store(self) -> Store:
        """The finished cells.

        Raises:
            InputError: if the folder holds no comparison of bottlenecks, or another one.
        """
        settings_in(self.folder)
        return Store(Path(self.folder), {"study": self.study.kind, **self._plan.shared()})

    @cached_property
    def cell(self) -> Cell:
        """The finished cell.

        Raises:
            InputError: if it is not finished, or there are several and no site was given.
        """
        done = {c["site"]: c for c, _ in self.store.contents().values() if (c["kind"], c["seed"]) == self._what}
        if self.site is None and len(done) > 1:
            raise InputError(f"site: there are bottlenecks at {', '.join(sorted(done))}; choose one of them.")
        site = self.site or next(iter(done), self.study.sites[0])
        if site not in done:
            known = f" (trained are those at {', '.join(sorted(done))})" if done else ""
            raise InputError(
                f"site={site!r}: its supervised bottleneck is not trained{known}; run `whatwhere say compare` "
                f"with this site and the kind {SPEAKING} first."
            )
        return Cell(done[site])

    @property
    def _what(self) -> tuple[str, int]:
        return SPEAKING, self.seed

    @cached_property
    def _plan(self) -> ComparePlan:
        return ComparePlan(self.study)

    @cached_property
    def bench(self) -> CompareWorker:
        """What reads features and weights."""
        return self._plan.bench(Run(self.folder, weights_folder=self.weights_folder))

    @property
    def scenes(self) -> Scenes:
        """The scenes."""
        return self.bench.scenes

    @property
    def place(self) -> str:
        """The site."""
        return str(self.cell.config["site"])

    @cached_property
    def result(self) -> Mapping[str, Any]:
        """What the cell measured."""
        return self.store.load(self.cell)

    @cached_property
    def scored(self) -> SayResult:
        """The comparison's result, of all that is finished in the folder."""
        return self._plan.fold(Finished(self.store, self.store.contents()))

    @cached_property
    def module(self) -> nn.Module:
        """The network."""
        return self.bench.rebuilt(self.cell, self.result["names"])

    @cached_property
    def layer(self) -> Bottleneck:
        """Its bottleneck."""
        return layer_of(self.module)

    @cached_property
    def tail(self) -> Tail:
        """What follows the site, bottleneck included."""
        return self._from(f"{self.place}.site")

    @cached_property
    def rest(self) -> Tail:
        """What follows the bottleneck."""
        return self._from(f"{self.place}.bottleneck.decode")

    def _from(self, site: str) -> Tail:
        return Tail(self.module, site, torch.zeros(1, *self.picture(0).shape))

    @cached_property
    def test(self) -> SiteFeatures:
        """Features of the test pictures."""
        return self.bench.features(self.cell.config, "test")

    @cached_property
    def said(self) -> Cells:
        """Scores and concept maps of the test pictures."""
        return cells(self.tail, self.test, self.layer)[0]

    @cached_property
    def sure(self) -> Tensor:
        """(N, h, w) P(right), by the concepts' model (by max softmax where that could not be fitted)."""
        held = self.bench.features(self.cell.config, "validation")
        given, _ = confidences(cells(self.tail, held, self.layer)[0], self.layer.names)
        found: Tensor = given.get("concepts", given["max softmax"])(self.said)
        return found

    def picture(self, row: int) -> Tensor:
        """(3, H, W) of one test picture."""
        return self.test.split[row][0]

    def truth(self, row: int) -> Tensor:
        """(H, W) its classes."""
        return self.test.split[row][1][CLASS]

    def scores(self, row: int) -> Tensor:
        """(classes, H, W) of one test picture."""
        with evaluating(self.tail):
            scores, _ = score_maps(self.tail(self.test.at(torch.tensor([row]))))
        return at_size(scores, self.truth(row))[0]

    def rested(self, maps: Tensor) -> Tensor:
        """Log-probabilities (N, classes, h, w) that rest on given concept maps (N, K, h, w)."""
        picture, found = self.picture(0), []
        with evaluating(self.rest):
            for part in maps.split(BATCH):
                scores, _ = score_maps(self.rest(self.layer.decode(part)))
                at = nn.functional.interpolate(at_size(scores, picture), size=maps.shape[-2:], mode="nearest-exact")
                found.append(at.log_softmax(1))
        return torch.cat(found)


def settings_in(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a folder's study.json says.

    Raises:
        InputError: if the folder holds no comparison of bottlenecks.
    """
    file = Path(folder) / "study.json"
    plain = read_json(file) if file.exists() else None
    if not isinstance(plain, dict) or plain.get("study") != Compare.kind:
        raise InputError(
            f"out={os.fspath(folder)!r} holds no comparison of bottlenecks; run `whatwhere say compare` first."
        )
    return plain


def checked_rows(rows: Sequence[int], total: int, argument: str = "rows") -> list[int]:
    """Row numbers, each once.

    Args:
        rows: that were given.
        total: number of test pictures.
        argument: that they were given as, for the error.

    Raises:
        InputError: if there are none, or no such test picture.
    """
    if not rows:
        raise InputError(f"{argument} is empty; give numbers of test pictures, from 0 to {total - 1}.")
    wrong = [r for r in rows if not 0 <= r < total]
    if wrong:
        raise InputError(
            f"{argument}={list(rows)}: there is no test picture {wrong[0]}; give numbers from 0 to {total - 1}."
        )
    return list(dict.fromkeys(rows))
