"""One cell: fit the read-outs of one network, all sites, kernels and targets in one pass, and score them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from whatwhere.network import Network
from whatwhere.position.features import RGB, Reader, Tap, rgb_tap, taps_of
from whatwhere.position.official import Official, OfficialReadOut, train_readouts
from whatwhere.position.ridge import MOST_COLUMNS, Group, LinearReadOut, RidgeFit, output_size
from whatwhere.position.score import Scores, score
from whatwhere.position.targets import Target, stack
from whatwhere.sites import Selection, evaluating
from whatwhere.studies.position.pictures import PICTURES, Pictures, blank, prepared

ALL = "all"
SHOWN = 2  # pictures whose predictions are kept to look at
CACHE = 2 << 30  # bytes of features that the official read-out may keep instead of running the network again
ReadOut = LinearReadOut | OfficialReadOut
Key = tuple[str, str, int]  # readout, group, kernel


@dataclass(frozen=True)
class Plan:
    """What is read out, from where, how.

    Attributes:
        pictures: to fit and to test.
        sites: where to read.
        targets: what to read out.
        kernels: of the read-outs.
        readouts: `ridge`, `official`.
        blanks: pictures without content to test on: black, white, noise.
        padding: zeros around the features.
        size: of the features.
        official: settings of the official read-out.
        seed: of draws.
        batch: pictures in a forward pass.
    """

    pictures: Pictures
    sites: Selection
    targets: tuple[Target, ...]
    kernels: tuple[int, ...]
    readouts: tuple[str, ...]
    blanks: tuple[str, ...] = ()
    padding: int = 0
    size: int = 28
    official: Official = field(default_factory=Official)
    seed: int = 0
    batch: int = 32

    def groups(self, net: Network) -> tuple[list[Tap], list[Group]]:
        """Every tap, and what is read together: each tap alone, all of the network's, and the raw input."""
        shape = self.shape(net)
        inner = taps_of(net, self.sites, input_size=shape)
        alone = [Group(t.name, (t,)) for t in inner]
        together = [Group(ALL, tuple(inner))] if len(inner) > 1 else []
        raw = rgb_tap(shape)
        return [*inner, raw], [*alone, *together, Group(RGB, (raw,))]

    def shape(self, net: Network) -> tuple[int, int, int]:
        """(C, H, W) of a prepared picture."""
        return self.pictures.fit.shape(net.preprocessing)


def measure(net: Network, plan: Plan, *, control: bool, on_batch: Callable[[int], None] = lambda n: None) -> Any:
    """Fit and score; everything in plain values.

    Args:
        net: one variant.
        plan: what to do.
        control: also fit the ridge read-outs to shuffled positions.
        on_batch: called with the number of pictures done.

    Returns:
        `rows`, each with its scores for every picture; `maps`, some predictions to look at; `notes`.
    """
    job = _Job(net, plan, control, on_batch)
    with evaluating(net.module), job.reader.reading() as job.read:
        rows, maps = job.scored(job.fitted())
    return {"rows": rows, "maps": maps, "notes": job.notes}


class _Job:
    def __init__(self, net: Network, plan: Plan, control: bool, on_batch: Callable[[int], None]) -> None:
        self.net, self.plan, self.control, self.on_batch = net, plan, control, on_batch
        taps, groups = plan.groups(net)
        self.reader = Reader(net, taps, size=plan.size)
        self.read: Callable[[Tensor], dict[str, Tensor]] = lambda x: {}
        self.notes: list[str] = []
        self.groups = {k: [g for g in groups if self._fits(g, k)] for k in plan.kernels}
        self.shares = {g.name: max(t.depth_share for t in g.taps) for g in groups}
        self.shown = groups[-2].name  # all together, or the only site; the raw input is the last

    def _fits(self, group: Group, kernel: int) -> bool:
        columns = group.channels * kernel * kernel
        if columns > MOST_COLUMNS:
            self.notes.append(
                f"The {kernel}x{kernel} read-out of {group.name!r} is left out: {columns} columns are more than "
                f"{MOST_COLUMNS}."
            )
        return columns <= MOST_COLUMNS

    # ---- fitting

    def fitted(self) -> dict[Key, ReadOut]:
        found: dict[Key, ReadOut] = {}
        if "ridge" in self.plan.readouts:
            found.update(self._ridge())
        if "official" in self.plan.readouts:
            found.update(self._official())
        return found

    def _ridge(self) -> dict[Key, ReadOut]:
        p = self.plan
        targets = [*p.targets, *(p.targets if self.control else ())]  # the second half has its positions shuffled
        fits = {
            ("ridge", g.name, k): RidgeFit(g, targets, kernel=k, padding=p.padding, size=p.size)
            for k in p.kernels for g in self.groups[k]
        }  # fmt: skip
        for rows, held_out in ((p.pictures.rows, False), (p.pictures.held_out, True)):
            for part, x in prepared(p.pictures.fit, rows, self.net.preprocessing, p.batch):
                maps = self.read(x)
                goals = {k: self._goals(k, part, 0) if self.control else None for k in p.kernels}
                for (_, _, k), fit in fits.items():
                    fit.add(maps, held_out, goals[k])
                self.on_batch(len(x))
        return {key: fit.solve() for key, fit in fits.items()}

    def _goals(self, kernel: int, rows: Tensor, use: int) -> Tensor:
        """Targets of each picture (N, 2T, h, w): as they are, then with positions in an order of the picture's own."""
        size = output_size(self.plan.size, kernel, self.plan.padding)
        flat = stack(self.plan.targets, size).flatten(1)
        seeds = (_seed(self.plan.seed, use, int(row)) for row in rows)
        orders = (torch.randperm(size * size, generator=torch.Generator().manual_seed(s)) for s in seeds)
        return torch.stack([torch.cat([flat, flat[:, order]]) for order in orders]).unflatten(2, (size, size))

    def _official(self) -> dict[Key, ReadOut]:
        p = self.plan
        readouts = {
            ("official", g.name, k): OfficialReadOut(
                g, p.targets, kernel=k, padding=p.padding, size=p.size, how=p.official, seed=p.seed
            )
            for k in p.kernels for g in self.groups[k]
        }  # fmt: skip
        everything = torch.cat([p.pictures.rows, p.pictures.held_out])
        cache = self._cache(everything)
        train_readouts(list(readouts.values()), lambda epoch: self._batches(everything, epoch, cache))
        return dict(readouts)

    def _cache(self, rows: Tensor) -> dict[str, Tensor] | None:
        channels = sum(t.channels for t in self.reader.taps)
        if 4 * len(rows) * channels * self.plan.size**2 > CACHE:
            return None
        parts = [self.read(x) for _, x in prepared(self.plan.pictures.fit, rows, self.net.preprocessing, 32)]
        return {name: torch.cat([p[name] for p in parts]) for name in parts[0]}

    def _batches(
        self, rows: Tensor, epoch: int, cache: Mapping[str, Tensor] | None
    ) -> Iterator[tuple[Mapping[str, Tensor], None]]:
        size = self.plan.official.batch_size
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(_seed(self.plan.seed, 2, epoch)))
        if cache is not None:
            for part in order.split(size):
                if len(part) > 1:  # batch norm needs two
                    yield {name: maps[part] for name, maps in cache.items()}, None
            return
        for part, x in prepared(self.plan.pictures.fit, rows[order], self.net.preprocessing, size):
            if len(part) > 1:
                yield self.read(x), None

    # ---- scoring

    def scored(self, readouts: Mapping[Key, ReadOut]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A row for each read-out, target and kind of picture; and some predictions to look at."""
        collected: dict[tuple[Key, int, str], list[Scores]] = {}
        shown: dict[str, Any] = {}
        for inputs, rows, x in self._inputs():
            maps = self.read(x)
            goals = {k: self._goals(k, rows, 1) for k in self.plan.kernels}
            for key, readout in readouts.items():
                predicted = readout.predict(maps)
                for t in range(predicted.shape[1] if inputs == PICTURES else len(self.plan.targets)):
                    parts = collected.setdefault((key, t, inputs), [])
                    parts.append(score(predicted[:, t], goals[key[2]][:, t]))
                if inputs == PICTURES and key[1] == self.shown and not shown:
                    shown = {"site": self.shown, "predicted": _rounded(predicted[:SHOWN, : len(self.plan.targets)])}
        return [self._row(*found, parts, readouts[found[0]]) for found, parts in collected.items()], shown

    def _inputs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        p = self.plan
        for part, x in prepared(p.pictures.test, p.pictures.test_rows, self.net.preprocessing, p.batch):
            yield PICTURES, part, x
        for name in p.blanks:
            x = blank(name, self.net.preprocessing, p.shape(self.net), p.seed)
            yield name, torch.arange(len(x)), x

    def _row(self, key: Key, t: int, inputs: str, parts: Sequence[Scores], readout: ReadOut) -> dict[str, Any]:
        method, group, kernel = key
        targets = len(self.plan.targets)
        return {
            "readout": method, "group": group, "kernel": kernel, "target": self.plan.targets[t % targets].name,
            "inputs": inputs, "shuffled": t >= targets, "depth_share": self.shares[group],
            "spc": [round(float(v), 6) for part in parts for v in part.spc],
            "mae": [round(float(v), 6) for part in parts for v in part.mae],
            "constant": sum(part.constant for part in parts),
            "penalty": readout.penalty[t] if isinstance(readout, LinearReadOut) else None,
        }  # fmt: skip


def _seed(*parts: int) -> int:
    """One seed of several numbers, none of them large."""
    return sum((part + 1) * 1_000_003**i for i, part in enumerate(parts)) % (1 << 62)


def _rounded(maps: Tensor) -> list[Any]:
    return (1000 * maps).round().div(1000).tolist()
