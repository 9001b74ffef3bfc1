"""Measure some pictures at every cut, sharing the computation before a cut over all methods and draws."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.data import Split
from whatwhere.dependency.branch import Resume, SharedPrefix
from whatwhere.dependency.shuffle import pool, shuffle
from whatwhere.intervals import Batch
from whatwhere.interventions import Intervention
from whatwhere.network import Network
from whatwhere.sites import Site, Sites, evaluating
from whatwhere.studies.packed import pack, unpack
from whatwhere.training.evaluate import check_scores

MEAN = "mean"
Place = tuple[str, str]  # (method, site)


def seed_of_draw(seed: int, method: str, site: str, repeat: int, batch: int) -> int:
    """The seed of one draw: any path through the pictures gives each batch the same draws."""
    text = f"{seed}/{method}/{site}/{repeat}/{batch}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Curve:
    """What a test-time curve measures.

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

    def entry(self, cut: Site) -> Site:
        """The first place that a removal at a cut touches; everything before it is shared."""
        removal = self.removal(self.methods[0], cut, 0, 0)
        return min((*removal.inputs, *removal.shortcuts), key=lambda s: s.order)


@dataclass
class Tally:
    """How often pictures were right at one place.

    Attributes:
        hits: (n,) draws in which each picture was right.
        repeats: (n,) draws each picture had.
        batches: the same, per batch and draw.
    """

    hits: NDArray[np.integer]
    repeats: NDArray[np.integer]
    batches: list[Batch] = field(default_factory=list)

    @property
    def rates(self) -> NDArray[np.float64]:
        """(n,) share of its draws in which each picture was right."""
        return self.hits / self.repeats

    @staticmethod
    def of(runs: Tensor) -> Tally:
        """From (draws, n) right or wrong, of one batch."""
        draws, n = runs.shape
        totals = tuple(int(t) for t in runs.sum(1))
        return Tally(runs.sum(0).numpy(), np.full(n, draws), [Batch(n, totals)])

    @staticmethod
    def join(parts: Sequence[Tally]) -> Tally:
        """One after the other."""
        hits, repeats = ([getattr(p, name) for p in parts] for name in ("hits", "repeats"))
        return Tally(np.concatenate(hits), np.concatenate(repeats), [b for p in parts for b in p.batches])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a cell."""
        batches = [[b.n, list(b.totals)] for b in self.batches]
        return {"hits": pack(self.hits), "repeats": pack(self.repeats), "batches": batches}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> Tally:
        """From a cell's plain values."""
        batches = [Batch(n, tuple(totals)) for n, totals in plain["batches"]]
        return Tally(unpack(plain["hits"]).astype(int), unpack(plain["repeats"]).astype(int), batches)


def measure(
    curve: Curve,
    split: Split,
    rows: range,
    repeats: Mapping[Place, int],
    on_batch: Callable[[int], None] = lambda n: None,
) -> dict[Place | None, Tally]:
    """Measure some pictures.

    Args:
        curve: what to measure.
        split: the pictures.
        rows: which of them; starts at a multiple of the batch size.
        repeats: draws at each (method, cut).
        on_batch: told the number of pictures after each batch.

    Returns:
        For each (method, cut), and for None, the intact network: what was right.
    """
    parts: dict[Place | None, list[Tally]] = defaultdict(list)
    first = rows.start // curve.batch_size
    with ExitStack() as stack:
        stack.enter_context(evaluating(curve.net.module))
        run = stack.enter_context(SharedPrefix(curve.net))
        order = torch.arange(rows.start, rows.stop)
        batches = split.batches(curve.batch_size, geometry=curve.net.preprocessing, order=order)
        for i, (images, labels) in enumerate(batches):
            for place, tally in _batch(curve, run, images, labels, first + i, repeats).items():
                parts[place].append(tally)
            on_batch(len(labels))
    return {place: Tally.join(tallies) for place, tallies in parts.items()}


def _batch(
    curve: Curve, run: SharedPrefix, images: Tensor, labels: Tensor, number: int, repeats: Mapping[Place, int]
) -> dict[Place | None, Tally]:
    prepared = curve.net.prepared(images)
    labels = labels.to(prepared.device)
    tallies: dict[Place | None, Tally] = {}

    def at(cuts: Sequence[Site]) -> Any:
        def at_cut(resume: Resume) -> None:
            for cut in cuts:
                for method in curve.methods:
                    runs = [
                        _draw(curve, resume, labels, method, cut, r, number) for r in range(repeats[method, cut.name])
                    ]
                    tallies[method, cut.name] = Tally.of(torch.stack(runs).cpu())

        return at_cut

    entries: dict[Site, list[Site]] = defaultdict(list)
    for cut in curve.cuts:
        entries[curve.entry(cut)].append(cut)
    scores = run(prepared, {e: at(cuts) for e, cuts in entries.items()})
    check_scores(scores, labels)
    tallies[None] = Tally.of((scores.argmax(1) == labels)[None].cpu())
    return tallies


def _draw(curve: Curve, resume: Resume, labels: Tensor, method: str, cut: Site, repeat: int, batch: int) -> Tensor:
    with curve.removal(method, cut, repeat, batch):
        return resume().argmax(1) == labels
