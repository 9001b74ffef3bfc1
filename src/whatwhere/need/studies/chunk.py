"""Measure some pictures at every cut, sharing the computation before a cut over all methods and draws."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from whatwhere.data import Split
from whatwhere.interventions import Intervention
from whatwhere.need.branch import AtCut, Resume, SharedPrefix
from whatwhere.need.shuffling import pool, shuffle
from whatwhere.need.studies.result import MEAN
from whatwhere.need.studies.tally import Place, Tallies, Tally
from whatwhere.network import Network
from whatwhere.site import Site, Sites, evaluating
from whatwhere.training.scores import check_scores


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
        methods: modes of `shuffle`, and `mean`.
        reach: how far a removal goes: "from" a cut to the end, or a number of cuts (1: only this one).
        seed: of all draws.
        batch_size: pictures that share a draw.
    """

    net: Network
    table: Sites
    cuts: Sequence[Site]
    methods: tuple[str, ...]
    reach: str | int
    seed: int
    batch_size: int

    def selection(self, cut: Site) -> str | list[Site]:
        """What is removed at a cut, for `Sites.select`."""
        if self.reach == "from":
            return f"{cut.name}:"
        first = list(self.cuts).index(cut)
        return list(self.cuts[first : first + int(self.reach)])

    def removal(self, method: str, cut: Site, repeat: int, batch: int) -> Intervention:
        """The intervention of one draw."""
        if method == MEAN:
            return pool(self.net, self.selection(cut), table=self.table)
        seed = seed_of_draw(self.seed, method, cut.name, repeat, batch)
        return shuffle(self.net, self.selection(cut), mode=method, seed=seed, table=self.table)  # type: ignore[arg-type]

    @cached_property
    def entries(self) -> Mapping[Site, Sequence[Site]]:
        """The cuts by the first place that a removal there touches; everything before it is shared."""
        found: dict[Site, list[Site]] = defaultdict(list)
        for cut in self.cuts:
            removal = self.removal(self.methods[0], cut, 0, 0)
            found[min((*removal.inputs, *removal.shortcuts), key=lambda s: s.order)].append(cut)
        return found


def measure(
    what: Removals,
    split: Split,
    rows: range,
    repeats: Mapping[Place, int],
    on_batch: Callable[[int], None] = lambda n: None,
) -> Tallies:
    """Measure some pictures.

    Args:
        what: is removed, and where.
        split: the pictures.
        rows: of the split; starts at a multiple of the batch size.
        repeats: draws at each (method, cut).
        on_batch: called after each batch with its number of pictures.

    Returns:
        For each (method, cut), and for None, the intact network: what was right.
    """
    parts: dict[Place | None, list[Tally]] = defaultdict(list)
    with ExitStack() as stack:
        stack.enter_context(evaluating(what.net.module))
        run = stack.enter_context(SharedPrefix(what.net))
        order = torch.arange(rows.start, rows.stop)
        batches = split.batches(what.batch_size, geometry=what.net.preprocessing, order=order)
        for number, (images, labels) in enumerate(batches, rows.start // what.batch_size):
            prepared = what.net.prepared(images)
            batch = _Batch(what, labels.to(prepared.device), number, repeats)
            for place, tally in batch.run(run, prepared).items():
                parts[place].append(tally)
            on_batch(len(labels))
    return {place: Tally.join(tallies) for place, tallies in parts.items()}


@dataclass
class _Batch:
    """The labels of some pictures, and what is measured on them."""

    what: Removals
    labels: Tensor
    number: int
    repeats: Mapping[Place, int]
    tallies: Tallies = field(default_factory=dict)

    def run(self, prefix: SharedPrefix, prepared: Tensor) -> Tallies:
        """Measure at every cut, then the intact network."""
        scores = prefix(prepared, {entry: self._at(cuts) for entry, cuts in self.what.entries.items()})
        check_scores(scores, self.labels)
        self.tallies[None] = Tally.of(self._right(scores)[None].cpu())
        return self.tallies

    def _at(self, cuts: Sequence[Site]) -> AtCut:
        def at_cut(resume: Resume) -> None:
            for cut in cuts:
                for method in self.what.methods:
                    runs = [self._draw(resume, method, cut, r) for r in range(self.repeats[method, cut.name])]
                    self.tallies[method, cut.name] = Tally.of(torch.stack(runs).cpu())

        return at_cut

    def _draw(self, resume: Resume, method: str, cut: Site, repeat: int) -> Tensor:
        with self.what.removal(method, cut, repeat, self.number):
            return self._right(resume())

    def _right(self, scores: Tensor) -> Tensor:
        return scores.argmax(1) == self.labels
