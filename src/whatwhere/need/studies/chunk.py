"""Measure some pictures at every cut, sharing the computation before a cut over all methods and draws.

The score is a value: what it needs of each picture is kept as soon as a network's outputs are there, and the outputs
are not. A score that compares with the intact network gets its outputs first, from a pass of their own.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from whatwhere.data import Split
from whatwhere.data.boxes import BoxSplit
from whatwhere.data.scenes import SceneSplit
from whatwhere.interventions import Intervention
from whatwhere.lab.packed import pack, pack_arrays, unpack, unpack_arrays
from whatwhere.lab.parts import Parts
from whatwhere.lab.progress import Meter
from whatwhere.need.branch import AtCut, Resume, SharedPrefix
from whatwhere.need.position_embeddings import Embedding
from whatwhere.need.studies.result import MEAN
from whatwhere.need.studies.set_tally import SetTally
from whatwhere.need.studies.tally import AnyTally, Place, Tallies, Tally, joined_tally
from whatwhere.need.studies.temporary import INPUT, REMOVALS, at_input
from whatwhere.network import Network
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Evidence, Score
from whatwhere.site import Site, Sites, evaluating

AnySplit: TypeAlias = Split | SceneSplit | BoxSplit


def seed_of_draw(seed: int, method: str, site: str, repeat: int, batch: int) -> int:
    """The seed of one draw: any path through the pictures gives each batch the same draws."""
    text = f"{seed}/{method}/{site}/{repeat}/{batch}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Removals:
    """What a test-time curve removes, and where.

    Attributes:
        net: the network, trained.
        table: its sites.
        cuts: where it is cut.
        methods: of `temporary.REMOVALS`.
        reach: how far a removal goes: "from" a cut to the end, or a number of cuts (1: only this one).
        seed: of all draws.
        batch_size: pictures that share a draw.
        score: that is measured.
        embeddings: the network's position embeddings, where a method acts on them.
    """

    net: Network
    table: Sites
    cuts: Sequence[Site]
    methods: tuple[str, ...]
    reach: str | int
    seed: int
    batch_size: int
    score: Score = ACCURACY
    embeddings: tuple[Embedding, ...] = ()

    def selection(self, cut: Site) -> str | list[Site]:
        """What is removed at a cut, for `Sites.select`."""
        if self.reach == "from":
            return f"{cut.name}:"
        first = list(self.cuts).index(cut)
        return list(self.cuts[first : first + int(self.reach)])

    def removal(self, method: str, cut: Site, repeat: int, batch: int) -> Intervention:
        """The intervention of one draw."""
        act, seed = REMOVALS[method].act, seed_of_draw(self.seed, method, cut.name, repeat, batch)
        if cut.name == INPUT:
            return act(self.net, None, seed=seed, table=self.table, found=self.embeddings)
        return act(self.net, self.selection(cut), seed=seed, table=self.table)

    @cached_property
    def entries(self) -> Mapping[Site, Sequence[Site]]:
        """The cuts by the first place that a removal there touches; everything before it is shared."""
        found: dict[Site, list[Site]] = defaultdict(list)
        for cut in self.cuts:
            removal = self.removal(MEAN, cut, 0, 0)  # acts where the others do, or before
            found[min((*removal.inputs, *removal.shortcuts), key=lambda s: s.order)].append(cut)
        if any(REMOVALS[m].where == "input" for m in self.methods):
            found[self.table[0]].append(at_input(self.table))
        return found

    def batches(self, rows: range) -> range:
        """The numbers of the batches of some rows, which start at a multiple of the batch size."""
        return range(rows.start // self.batch_size, -(-rows.stop // self.batch_size))

    def pictures(self, number: int, rows: range) -> range:
        """The rows of a batch."""
        first = number * self.batch_size
        return range(first, min(first + self.batch_size, rows.stop))

    def tasks(self, repeats: Mapping[Place, int]) -> dict[Task, float]:
        """All that is measured on a batch, with what each costs: the operations for one picture."""
        total = self.table.total_flops
        draws: dict[Task, float] = {
            (method, cut.name, repeat): float(total - entry.flops_before)
            for entry, cuts in self.entries.items()
            for cut in cuts
            for method in self.methods
            for repeat in range(repeats.get((method, cut.name), 0))
        }
        return {**draws, None: float(total) * (2 if self.score.of_intact else 1)}


Task: TypeAlias = tuple[str, str, int] | None  # (method, site, draw); None: the intact network


def measure(
    what: Removals,
    split: AnySplit,
    rows: range,
    repeats: Mapping[Place, int],
    parts: Parts | None = None,
    meter: Meter | None = None,
) -> Tallies:
    """Measure some pictures.

    Args:
        what: is removed, and where.
        split: the pictures.
        rows: of the split; starts at a multiple of the batch size.
        repeats: draws at each (method, cut).
        parts: what was measured before is not measured again; the numbers are the same either way, since every draw
            has a seed of its own.
        meter: told how many of `cost` are done.

    Returns:
        For each (method, cut), and for None, the intact network: what the score needs.
    """
    parts, tasks = parts or Parts(), what.tasks(repeats)
    numbers = what.batches(rows)
    batches = [_Batch(what, n, what.pictures(n, rows), tasks, parts) for n in numbers]
    for batch in batches:
        batch.advance(meter, *(t for t in tasks if batch.name(t) in parts))
    left = [b for b in batches if not b.whole]
    with ExitStack() as stack:
        stack.enter_context(evaluating(what.net.module))
        run = stack.enter_context(SharedPrefix(what.net))
        order = torch.tensor([row for b in left for row in b.rows], dtype=torch.int64)
        pictures = split.batches(what.batch_size, geometry=what.net.preprocessing, order=order)
        for batch, (images, targets) in zip(left, pictures, strict=True):
            prepared = what.net.prepared(images)
            batch.run(run, prepared, beside(targets, prepared), meter)
    places: list[Place | None] = [*repeats, None]
    return {place: joined_tally([b.tally(place) for b in batches]) for place in places}


def measure_plain(
    net: Network,
    split: AnySplit,
    batch_size: int,
    parts: Parts | None = None,
    meter: Meter | None = None,
    score: Score = ACCURACY,
    intact: Network | None = None,
) -> AnyTally:
    """Measure a network as it is, on all pictures; likewise in parts. The meter is told how many are done.

    Args:
        net: the network.
        split: the pictures.
        batch_size: pictures in a forward pass.
        parts: what was measured before.
        meter: told how many pictures are done.
        score: that is measured.
        intact: the network that the score compares with, if it does; `net` itself if not given.
    """
    kept = parts or Parts()
    batches = {str(n): range(n, min(n + batch_size, len(split))) for n in range(0, len(split), batch_size)}
    left = [name for name in batches if name not in kept]
    order = torch.tensor([row for name in left for row in batches[name]], dtype=torch.int64)
    pictures = split.batches(batch_size, geometry=net.preprocessing, order=order)
    original = intact or net
    with evaluating(net.module), evaluating(original.module):
        for name, (images, targets) in zip(left, pictures, strict=True):
            prepared = net.prepared(images)
            outputs, given = net.module(prepared), beside(targets, prepared)
            score.check(outputs, given)
            other = original.module(prepared) if score.of_intact else None
            kept.add(name, packed(score, score.evidence(outputs, given, other)))
            if meter:
                meter.update(batches[name].stop)
    return tally_of_draws(score, [[e for name in batches for e in unpacked(score, kept[name])]])


def beside(targets: Any, prepared: Tensor) -> Any:
    """What pictures come with, where the pictures are, if it is a tensor."""
    return targets.to(prepared.device) if isinstance(targets, Tensor) else targets


def packed(score: Score, evidence: Sequence[Evidence]) -> Any:
    """Plain values of a batch's evidence: of right and wrong pictures a byte each."""
    return pack(np.concatenate(evidence).astype(np.uint8)) if score.counted else pack_arrays(evidence)


def unpacked(score: Score, plain: Any) -> list[Evidence]:
    """A batch's evidence."""
    return list(unpack(plain).astype(np.float64)[:, None]) if score.counted else unpack_arrays(plain)


def tally_of_draws(score: Score, draws: Sequence[list[Evidence]]) -> AnyTally:
    """The tally of a batch from its evidence in each draw."""
    if not score.per_picture:
        return SetTally(list(draws))
    runs = torch.from_numpy(np.stack([np.concatenate(draw) for draw in draws]))
    return Tally.of(runs.bool() if score.counted else runs)


def cost(what: Removals, rows: range, repeats: Mapping[Place, int]) -> float:
    """What `measure` takes, in operations."""
    return len(rows) * sum(what.tasks(repeats).values())


@dataclass(frozen=True)
class _Batch:
    """A batch, what is measured on it, and what was."""

    what: Removals
    number: int
    rows: range
    tasks: Mapping[Task, float]
    parts: Parts

    def name(self, task: Task) -> str:
        """Of a task's result among the parts."""
        return f"{self.number}" if task is None else "/".join(map(str, (self.number, *task)))

    @property
    def whole(self) -> bool:
        """Whether all is measured."""
        return all(self.name(t) in self.parts for t in self.tasks)

    def tally(self, place: Place | None) -> AnyTally:
        """What the score needs at a place."""
        of_place = [t for t in self.tasks if (t and t[:2]) == place]
        return tally_of_draws(self.what.score, [unpacked(self.what.score, self.parts[self.name(t)]) for t in of_place])

    def run(self, prefix: SharedPrefix, prepared: Tensor, targets: Any, meter: Meter | None) -> None:
        """Measure at every cut what is missing there, then the intact network."""
        score = self.what.score
        intact = self.what.net.module(prepared) if score.of_intact else None

        def done(task: Task, outputs: Any) -> None:
            self.parts.add(self.name(task), packed(score, score.evidence(outputs, targets, intact)))
            self.advance(meter, task)

        def at(cuts: Sequence[Site]) -> AtCut | None:
            names = {c.name: c for c in cuts}
            missing = [t for t in self.tasks if t and t[1] in names and self.name(t) not in self.parts]

            def at_cut(resume: Resume) -> None:
                for task in missing:
                    with self.what.removal(task[0], names[task[1]], task[2], self.number):
                        outputs = resume()
                    done(task, outputs)

            return at_cut if missing else None

        cuts = {entry: there for entry, group in self.what.entries.items() if (there := at(group))}
        outputs = prefix(prepared, cuts)
        score.check(outputs, targets)
        done(None, outputs)

    def advance(self, meter: Meter | None, *tasks: Task) -> None:
        """Tell how far the batch is."""
        if meter and tasks:
            meter.advance(len(self.rows) * sum(self.tasks[t] for t in tasks))
