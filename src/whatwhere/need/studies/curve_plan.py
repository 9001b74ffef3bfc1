"""The curve's cells: chunks of test pictures at every cut, and collapsed networks; folded into points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from whatwhere.data import Split
from whatwhere.data.boxes import BoxSplit
from whatwhere.data.scenes import SceneSplit
from whatwhere.depth import within_share
from whatwhere.errors import InputError
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.intervals import Estimate
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.packed import checked_repeats
from whatwhere.lab.rows import checked_counts, checked_names
from whatwhere.lab.study import Finished, Plan, Run
from whatwhere.models.weights import random_weights
from whatwhere.need.cuts import cuts_of
from whatwhere.need.gap_fc import collapse
from whatwhere.need.shuffling import check_seed
from whatwhere.need.studies.chunk import AnySplit, measure_plain
from whatwhere.need.studies.collapsible import pooled_sites
from whatwhere.need.studies.curve import Curve
from whatwhere.need.studies.curve_points import groups_of, intact_estimate, points_of
from whatwhere.need.studies.curve_worker import CurveWorker
from whatwhere.need.studies.leaks import leak_notes
from whatwhere.need.studies.on_pictures import AnyData, check_steady, limited, placed, sized
from whatwhere.need.studies.recommend import at_chance, check_within, recommend
from whatwhere.need.studies.result import GAP_FC, INTACT, NeedResult, Point, Recommendation, title_of
from whatwhere.need.studies.scored import chance_of, described, score_of
from whatwhere.need.studies.tally import (
    ONE_DRAW,
    Place,
    Tallies,
    draws_needed,
    joined,
    place_of,
    read,
    tally_of,
)
from whatwhere.need.studies.temporary import REMOVALS, check_places, places, token_notes
from whatwhere.need.studies.typed import collapse_command, recover_command, share_text, trained_command
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY, TOP5
from whatwhere.scores.score import Score
from whatwhere.site import Site, Sites
from whatwhere.site_table import list_sites
from whatwhere.training.evaluate import evaluate

FIRST_BATCHES = 2  # measured with every draw, to learn how much draws matter
CHUNK_BATCHES = 4
PICTURES, SCENES, BOXES = 128, 4, 16  # in a forward pass, if nothing else is asked for
ONE_CLASS = "A collapsed network (GAP+FC) says one class for the whole picture; shuffles and means keep the maps."
FEW = 8  # pictures that are tried before anything is measured
INTACT_CELL = Cell({"collapse": None}, "intact network")


class CurvePlan(Plan[Curve, NeedResult]):
    """A cell is a chunk of pictures at every cut, or a collapsed network on all pictures.

    Raises:
        InputError: for options that cannot work.
    """

    def __init__(self, study: Curve) -> None:
        super().__init__(study)
        self.methods = checked_names("methods", as_tuple(study.methods), (*REMOVALS, GAP_FC))
        self.shuffles = tuple(m for m in self.methods if m != GAP_FC)
        check_options(study)
        self._named: list[Cell] = []  # chunks, in order
        self._read: dict[str, Tallies] = {}  # their results, by their cells' keys

    @cached_property
    def data(self) -> AnyData:
        """The pictures, at most `limit` of them.

        Raises:
            InputError: if they have no fixed order.
        """
        data = limited(self.study.data_source.given, self.study.limit)
        check_steady(data)
        return data

    @property
    def split(self) -> AnySplit:
        """The test pictures."""
        return self.data.test

    @property
    def measured(self) -> list[AnySplit]:
        """The splits that its numbers come from."""
        return [self.split]

    @cached_property
    def batch_size(self) -> int:
        """Pictures in a forward pass."""
        usual = {SceneSplit: SCENES, BoxSplit: BOXES}
        return self.study.batch_size or usual.get(type(self.split), PICTURES)

    @cached_property
    def score(self) -> Score:
        """What is measured.

        Raises:
            InputError: for a score that these pictures or this network cannot have, and for options that do not go
                with it.
        """
        given = self.study.data
        what = f"data={given!r}" if isinstance(given, str) else "data"
        score = score_of(self.study.score, self.split, self.net, what)
        if self.study.within is not None:
            check_within(self.study.within, score)
        if self.study.tolerance is not None and not score.per_picture:
            raise InputError(
                f"tolerance={self.study.tolerance!r}: it is for scores of single pictures, and {score.label} is of the "
                "whole set; leave it out, and give fewer repeats."
            )
        return score

    @cached_property
    def net(self) -> Network:
        """The network, with the size of its pictures."""
        return sized(self.study.network_source.net, self.split)

    @cached_property
    def table(self) -> Sites:
        """Its sites."""
        return list_sites(self.net, input_size=self.split.shape(self.net.preprocessing))

    @cached_property
    def cuts(self) -> list[Site]:
        """Where it is cut.

        Raises:
            InputError: if there is no such place, or there are fewer than `reach`.
        """
        cuts = cuts_of(self.table) if self.study.sites is None else self.table.select(self.study.sites)
        if isinstance(self.study.reach, int) and self.study.reach > len(cuts):
            raise InputError(f"reach={self.study.reach}: there are {len(cuts)} cuts; give 1 to {len(cuts)}, or 'from'.")
        return cuts

    @cached_property
    def pooled(self) -> tuple[list[str], list[str]]:
        """Where it is collapsed, and notes on cuts that are left out."""
        return pooled_sites(self.net, self.table, self.cuts) if GAP_FC in self.methods else ([], [])

    def shared(self) -> Mapping[str, Any]:
        """The network with its weights, the test pictures, and all that decides a chunk."""
        split, net, score = self.split, self.net, self.score
        return {
            "network": net.name,
            "weights": fingerprint(net.module),
            "layers": architecture(net.module),
            "preprocessing": net.preprocessing.to_dict(),
            "data": split.fingerprint,
            "methods": self.shuffles,
            "cuts": [s.name for s in self.cuts],
            "reach": self.study.reach,
            "seed": self.study.seed,
            "repeats": self.study.repeats,
            "tolerance": self.study.tolerance,
            "batch_size": self.batch_size,
            **({} if score is ACCURACY else {"score": score.identity}),
        }

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The chunks that can be named, then the intact and the collapsed networks, where GAP+FC is asked for."""
        collapsed = [INTACT_CELL, *map(collapse_cell, self.pooled[0])] if GAP_FC in self.methods else []
        return [*self.chunks(done), *(replace(c, cost=self._cost(c)) for c in collapsed)]

    def _cost(self, cell: Cell) -> float:
        """The operations of a cell: of a chunk one whole pass, and for each draw what comes after its cut."""
        before = {s.name: s.flops_before for s in self.table}
        whole, pictures = self.table.total_flops, len(self.split)
        if "collapse" in cell.config:
            return pictures * before.get(cell.config["collapse"], whole)
        first, last = cell.config["rows"]
        drawn = sum(n * (whole - before.get(place_of(name)[1], 0)) for name, n in cell.config["draws"].items())
        return (last - first) * (whole + drawn)

    def chunks(self, done: Finished) -> list[Cell]:
        """The chunks that can be named: with a tolerance, the draws of one depend on all before it."""
        size, n = self.batch_size, len(self.split)
        bounds = [0, *range(FIRST_BATCHES * size, n, CHUNK_BATCHES * size), n]
        chunks = [(a, b) for a, b in pairwise(bounds) if a < b] if self.shuffles else []
        for first, last in chunks[len(self._named) :]:
            if self.study.tolerance is not None and self._named and self._named[-1] not in done:
                break
            draws = {f"{method} {site}": n for (method, site), n in self._draws(done).items()}
            chunk = Cell({"rows": [first, last], "draws": draws}, f"pictures {first}-{last}")
            self._named.append(replace(chunk, cost=self._cost(chunk)))
        return self._named

    def _draws(self, done: Finished) -> dict[Place, int]:
        """How many draws each place gets next: all, or as few as its interval so far allows."""
        there = places(self.shuffles, self.cuts)
        every = {(m, site): self.study.repeats if REMOVALS[m].drawn else 1 for m, site in there}
        if self.study.tolerance is None or not self._named:
            return every
        so_far = self._measured(done)
        intact, tolerance = so_far[None], self.study.tolerance
        return {
            place: most if most == 1 else draws_needed(so_far[place], intact, most, tolerance)
            for place, most in every.items()
        }

    def _measured(self, done: Finished) -> Tallies:
        """The finished chunks that were named, joined; {} if there are none."""
        for cell in self._named:
            if cell in done and cell.key not in self._read:
                self._read[cell.key] = read(done[cell])
        parts = [self._read[c.key] for c in self._named if c.key in self._read]
        return joined(parts) if parts else {}

    def check(self, how: Run) -> None:
        """Try a few pictures on the device, on which the costs in the recommendation are measured, too.

        Raises:
            InputError: for a device that is not there, a network that gives no scores for these pictures, or a method
                that it has no place for.
        """
        last = len(self.split) % self.batch_size or self.batch_size
        check_places(self.shuffles, self.net, self.table, self.cuts, min(last, len(self.split)))
        net = placed(self.study.network_source, self.split, how.device)
        if not isinstance(self.split, Split) or self.score not in (ACCURACY, TOP5):
            measure_plain(net, self.split.take(FEW), min(FEW, self.batch_size), score=self.score)
        elif math.isnan(evaluate(net, self.split.take(FEW)).loss):
            raise InputError(
                "model: its scores are not numbers (NaN) on the first pictures; see that its weights and the pictures "
                "hold numbers, and that its precision suffices."
            )

    def worker(self, how: Run) -> CurveWorker:
        """Measures one chunk, or one collapsed network."""
        study = self.study
        return CurveWorker(
            network=study.network_source,
            pictures=study.data_source,
            limit=study.limit,
            cuts=tuple(c.name for c in self.cuts),
            methods=self.shuffles,
            reach=study.reach,
            seed=study.seed,
            batch_size=self.batch_size,
            folder=how.folder,
            study=Cell(self.shared()).key,
            device=how.device,
            score=self.score,
        )

    def fold(self, done: Finished) -> NeedResult:
        """A point for each method and cut, paired with the intact network on the same pictures."""
        self.chunks(done)  # names them
        shuffled, collapsed = self._measured(done), self._collapsed(done)
        intact = shuffled.get(None) or collapsed.get(None)
        if intact is None:
            raise InputError("no cell of the intact network is finished; run the study without fold_only.")
        rows = [range(*c.config["rows"]) for c in self._named if c in done]
        every = groups_of(self.split.groups)
        some = groups_of(self.split.groups, rows) if shuffled else every
        points = [*points_of(collapsed, self.table, self.score, every)]
        points += points_of(shuffled, self.table, self.score, some)
        points.sort(key=lambda p: p.method)
        whole = Point(INTACT, "", 0.0, intact_estimate(intact, self.score, some))
        return NeedResult(
            protocol="test-time",
            network=self.net.name,
            data=self.data.describe(),
            preprocessing=self.net.preprocessing.to_dict(),
            settings=self._settings(),
            intact=(whole,),
            points=tuple(points),
            recommendation=self._advice(whole.score, points),
            notes=self._notes(whole.score, done),
            commands=self._commands(points),
            score=described(self.score),
        )

    def _settings(self) -> dict[str, Any]:
        study = self.study
        return {
            "repeats": study.repeats,
            "seed": study.seed,
            "batch_size": self.batch_size,
            "reach": study.reach,
            "tolerance": study.tolerance,
        }

    def _draws_note(self) -> list[str]:
        return [ONE_DRAW] if self.study.repeats == 1 and any(REMOVALS[m].drawn for m in self.shuffles) else []

    def _collapsed(self, done: Finished) -> Tallies:
        """The collapsed networks that are finished, with the intact one, without which no drop is known."""
        if INTACT_CELL not in done or GAP_FC not in self.methods:
            return {}
        cells = {site: collapse_cell(site) for site in self.pooled[0]}
        found: Tallies = {None: tally_of(done[INTACT_CELL])}
        measured = {s: done[c] for s, c in cells.items() if c in done and "refused" not in done[c]}
        return found | {(GAP_FC, s): tally_of(result) for s, result in measured.items()}

    def _refused(self, done: Finished) -> list[str]:
        """Where the network could not be collapsed, and why."""
        cells = {site: collapse_cell(site) for site in self.pooled[0]}
        why = {s: done[c]["refused"] for s, c in cells.items() if c in done and "refused" in done[c]}
        return [f"GAP+FC is left out at {site}: {reason}" for site, reason in why.items()]

    def _notes(self, intact: Estimate, done: Finished) -> tuple[str, ...]:
        leaks = leak_notes(self.net, self.table, self.cuts) if self.shuffles and self.study.reach == "from" else []
        tokens = token_notes(self.methods, self.net, self.table, self.cuts)
        own = (*random_weights(self.net), *self._knows_nothing(intact), *tokens, *leaks, *self._draws_note())
        one_class = [ONE_CLASS] if GAP_FC in self.methods and self.score.needs == "label maps" else []
        return (*own, *self.pooled[1], *self._refused(done), *one_class, *done.notes())

    @property
    def _advises(self) -> bool:
        """Whether a recommendation was asked for and can be made."""
        return self.study.within is not None and self.study.reach == "from"

    def _at_chance(self, intact: Estimate) -> str:
        """What is to be said of an intact network that knows nothing; "" of any other."""
        chance = chance_of(self.score, self.split)
        return at_chance(intact, chance, self.score) if chance is not None and intact.low <= chance else ""

    def _knows_nothing(self, intact: Estimate) -> list[str]:
        """The same as a note, where no recommendation says it."""
        return [said] if not self._advises and (said := self._at_chance(intact)) else []

    def _advice(self, intact: Estimate, points: list[Point]) -> Recommendation | None:
        within = self.study.within
        if within is None or not self._advises:
            return None
        if said := self._at_chance(intact):
            return Recommendation(said, within)

        def collapsed(site: str) -> Network:
            return collapse(self.net, site)

        return recommend(points, within, self.net, collapsed, retrained=False, recover=self._recover, score=self.score)

    def _recover(self, p: Point) -> str:
        """What can be done about a loss: fine-tuning, or training so from the start."""
        model, data = self.study.model, self.study.data
        if p.method != GAP_FC or not isinstance(self.split, Split) or not self.split.classes:
            return ""
        near = within_share(cuts := self.table.cuts, p.depth_share)
        named = isinstance(model, str) and isinstance(data, str) and "train" in self.study.data_source.data.splits
        if not named or not near:
            return f" Fine-tuning may recover some of it: ww.fit of ww.need.collapse(net, {p.site!r})."
        command = trained_command(str(model), str(data), self.study.width, share_text(cuts, near))
        tuned = recover_command(self.study.network_source, str(data), p.site)
        return f" Fine-tuning may bring some of it back: {tuned}; training so from the start may lose less: {command}"

    def _commands(self, points: list[Point]) -> dict[str, str]:
        """What makes each collapsed network that was measured."""
        places = (p for p in points if p.method == GAP_FC)
        return {title_of(p): collapse_command(self.study.network_source, p.site) for p in places}


def collapse_cell(site: str) -> Cell:
    """The cell that tests the network collapsed before a site."""
    return Cell({"collapse": site}, f"GAP+FC from {site}")


def check_options(study: Curve) -> None:
    """Refuse options that cannot work.

    Raises:
        InputError: naming the option.
    """
    checked_repeats(study.repeats)
    counts = {"batch_size": study.batch_size, "limit": study.limit}
    checked_counts(**{name: n for name, n in counts.items() if n is not None})
    check_seed(study.seed)
    reach, tolerance = study.reach, study.tolerance
    if reach != "from" and (not isinstance(reach, int) or isinstance(reach, bool) or reach < 1):
        raise InputError(f"reach={reach!r}: give 'from', or a number of cuts from 1.")
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool) and math.isfinite(tolerance)
    if tolerance is not None and (not number or tolerance < 0 or study.repeats < 3):
        raise InputError(f"tolerance={tolerance!r}: give 0 or more, and at least 3 repeats; None never stops early.")
