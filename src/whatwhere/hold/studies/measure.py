"""One network: fit the read-outs of all its sites, kernels and targets in one pass, and score them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whatwhere.data import Split
from whatwhere.errors import InputError
from whatwhere.heap import give_back
from whatwhere.hold.features import Group, Reader, Tap
from whatwhere.hold.kept import Kept, kept_bytes
from whatwhere.hold.krylov import Goals, krylov_readout
from whatwhere.hold.linear import LinearReadOut
from whatwhere.hold.official import OfficialReadOut, train_readouts
from whatwhere.hold.ridge import RidgeFit, RidgePath, output_size
from whatwhere.hold.score import Goal, Scores, score
from whatwhere.hold.studies.pictures import PICTURES, blank, prepared
from whatwhere.hold.studies.reading import Reading
from whatwhere.hold.studies.solving import in_closed_form, ways
from whatwhere.hold.targets import brought_to, resized, stack
from whatwhere.lab.packed import pack_maps, pack_scores
from whatwhere.network import Network
from whatwhere.site import evaluating
from whatwhere.training.tracking import logged

SHOWN = 2  # pictures whose predictions are kept to look at
SCORED = 8  # pictures of a batch whose predictions are made and scored together
CACHE = 2 << 30  # bytes of features that the official read-out may keep instead of running the network again
WORSE = 0.02  # of a target's spread: a kernel that predicts held-out pictures worse than its centre alone by so much
FIT, HELD_OUT, TEST, EPOCH = range(4)  # what draws are for, so that no two uses share them
ReadOut = LinearReadOut | OfficialReadOut
Key = tuple[str, str, int]  # readout, group, kernel


def measure(net: Network, reading: Reading, *, control: bool, on_batch: Callable[[int], None] = lambda n: None) -> Any:
    """Fit and score; everything in plain values.

    Args:
        net: one variant.
        reading: what to do.
        control: also fit the ridge read-outs to shuffled positions.
        on_batch: called with the number of pictures done.

    Returns:
        `rows`, each with its scores for every picture; `maps`, some predictions to look at; `notes`.
    """
    measuring = _Measuring(net, reading, control, on_batch)
    with evaluating(net.module), measuring.reader.reading() as measuring.own:
        rows, maps = measuring.scored(measuring.fitted())
    return {"rows": rows, "maps": maps, "notes": measuring.notes}


class _Measuring:
    def __init__(self, net: Network, reading: Reading, control: bool, on_batch: Callable[[int], None]) -> None:
        self.net, self.reading, self.control, self.on_batch = net, reading, control, on_batch
        taps, groups = reading.groups(net)
        self.reader = Reader(net, taps, size=reading.size, enlarge=False)
        self.own: Callable[[Tensor], dict[str, Tensor]] = lambda x: {}  # small maps at their own size
        self.notes: list[str] = []
        self.groups = groups
        self.side = max(reading.shape(net)[1:])  # maps are compared at the size of the pictures [code]
        self.shares = {g.name: max(t.depth_share for t in g.taps) for g in groups}
        self.shown = groups[-2 if len(groups) > 1 else 0].name  # all together, or the only site; the last is the input

    def read(self, x: Tensor) -> dict[str, Tensor]:
        """Maps by tap, all of the size that is read."""
        return self._whole(self.own(x))

    def _whole(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: resized(m, self.reading.size) for name, m in maps.items()}

    # ---- fitting

    def fitted(self) -> dict[Key, ReadOut]:
        """Every read-out.

        Raises:
            InputError: if none is small enough for the closed form and no other is asked for.
        """
        found: dict[Key, ReadOut] = {}
        if "ridge" in self.reading.readouts:
            found.update(self._ridge())
        if "official" in self.reading.readouts:
            found.update(self._official())
        if not found:
            raise InputError(
                f"every read-out has too many columns: {self.notes[0]} Give fewer sites or smaller kernels."
            )
        return found

    def _ridge(self) -> dict[Key, ReadOut]:
        how = self.reading
        by = ways(self.groups, how)
        self.notes += by.notes
        fit = Kept(how.size, how.padding, room=self._room(by.taps, how.pictures.fit))
        held_out = Kept(how.size, how.padding, fit.shift, room=self._room(by.taps, how.pictures.held_out))
        found: dict[Key, LinearReadOut] = self._closed(by.closed, by.taps, (fit, held_out), self.on_batch)
        iterated = {(k, g): self._iterated(g, k, fit, held_out) for k, g in by.iterated}
        found |= {("ridge", g.name, k): readout for (k, g), readout in iterated.items() if readout}
        del fit, held_out  # their features are many, and so are the products that follow
        if left := [read for read, readout in iterated.items() if readout is None]:
            found |= self._closed(left, [], None, lambda pictures: None)
        found = {("ridge", g.name, k): found["ridge", g.name, k] for k, g in by.all}
        for (_, name, k), readout in found.items():
            self.notes += worse_than_its_centre(readout, name, k, [t.name for t in how.targets])
        return dict(found)

    def _room(self, taps: Sequence[Tap], split: Split) -> int:
        return kept_bytes(taps, len(split), self.reading.size, self.reading.padding)

    def _closed(
        self,
        read: Sequence[tuple[int, Group]],
        taps: Sequence[Tap],
        kept: tuple[Kept, Kept] | None,
        on_batch: Callable[[int], None],
    ) -> dict[Key, LinearReadOut]:
        """Read-outs in closed form, in a pass over the pictures in which the features of taps are kept as well."""
        how = self.reading
        targets = [*how.targets, *(how.targets if self.control else ())]  # the second half has its positions shuffled
        wider = parts_of(read)
        fits: dict[Key, RidgeFit] = {
            ("ridge", g.name, k): RidgeFit(g, targets, kernel=k, padding=how.padding, size=how.size)
            for k, g in read
            if (k, g) not in wider
        }
        self._fill(how.pictures.fit, FIT, fits, taps, kept and kept[0], on_batch)
        paths: dict[Key, RidgePath] = {}
        for (k, g), h in wider.items():
            paths["ridge", g.name, k] = fits["ridge", h.name, k].part(g).solve()
            give_back()  # what one solution leaves is in the way of the next one's products
        paths |= {key: fits.pop(key).solve() for key in list(fits)}
        self._fill(how.pictures.held_out, HELD_OUT, paths, taps, kept and kept[1], on_batch)
        return {key: path.best() for key, path in paths.items()}

    def _iterated(self, group: Group, kernel: int, fit: Kept, held_out: Kept) -> LinearReadOut | None:
        """In a Krylov space; None where it would be a large one in float64, and the closed form can have it."""
        how = self.reading
        parts = ((how.pictures.fit, FIT), (how.pictures.held_out, HELD_OUT))
        goals = Goals(*(self._all_goals(kernel, split, use) for split, use in parts))
        tiny = not in_closed_form(kernel, group)
        return krylov_readout(group, kernel, how.padding, fit, held_out, goals, sets=1 + self.control, tiny=tiny)

    def _fill(
        self,
        split: Split,
        use: int,
        filled: Mapping[Key, RidgeFit | RidgePath],
        taps: Sequence[Tap],
        kept: Kept | None,
        on_batch: Callable[[int], None],
    ) -> None:
        """Show all pictures of a split to every fit, or to the solutions of every fit; keep what others need."""
        how = self.reading
        for rows, x in prepared(split, self.net.preprocessing, how.batch):
            maps = self.own(x)
            give_back()  # what the network's pass leaves is in the way of the products
            goals = {k: self._goals(output_size(how.size, k, how.padding), rows, use) for k in how.kernels}
            for (_, _, k), each in filled.items():
                each.add(maps, goals[k] if self.control else None)
            if kept is not None and taps:
                kept.add({t.name: maps[t.name] for t in taps})
            on_batch(len(x))

    def _all_goals(self, kernel: int, split: Split, use: int) -> list[Tensor]:
        """`_goals` of every batch."""
        how = self.reading
        size = output_size(how.size, kernel, how.padding)
        return [self._goals(size, rows, use) for rows in torch.arange(len(split)).split(how.batch)]

    def _goals(self, size: int, rows: Tensor, use: int) -> Tensor:
        """Targets of each picture (N, 2T, h, w): as they are, then with positions in an order of the picture's own."""
        flat = stack(self.reading.targets, size).flatten(1)
        if not self.control:
            return flat.unflatten(1, (size, size)).expand(len(rows), -1, -1, -1)
        seeds = (_seed(self.reading.seed, use, int(row)) for row in rows)
        orders = (torch.randperm(size * size, generator=torch.Generator().manual_seed(s)) for s in seeds)
        return torch.stack([torch.cat([flat, flat[:, order]]) for order in orders]).unflatten(2, (size, size))

    def _official(self) -> dict[Key, ReadOut]:
        how = self.reading
        readouts = {
            ("official", g.name, k): OfficialReadOut(
                g,
                how.targets,
                kernel=k,
                padding=how.padding,
                size=how.size,
                at=self.side,
                how=how.official,
                seed=how.seed,
            )
            for k in how.kernels
            for g in self.groups
        }
        splits = (how.pictures.fit, how.pictures.held_out)  # it has no penalty to choose, so it learns from both
        cache = self._cache(splits)
        pictures = sum(map(len, splits))
        with logged() as log:
            log.open()
            train_readouts(
                list(readouts.values()),
                lambda epoch: self._batches(splits, epoch, cache),
                on_epoch=lambda: self.on_batch(pictures),
                on_losses=log,
            )
        return dict(readouts)

    def _cache(self, splits: Sequence[Split]) -> dict[str, Tensor] | None:
        channels = sum(t.channels for t in self.reader.taps)
        if 4 * sum(map(len, splits)) * channels * self.reading.size**2 > CACHE:
            return None
        prep = self.net.preprocessing
        parts = [self.read(x) for split in splits for _, x in prepared(split, prep, self.reading.batch)]
        return {name: torch.cat([p.pop(name) for p in parts]) for name in list(parts[0])}

    def _batches(
        self, splits: Sequence[Split], epoch: int, cache: Mapping[str, Tensor] | None
    ) -> Iterator[Mapping[str, Tensor]]:
        size, first = self.reading.official.batch_size, len(splits[0])
        order = torch.randperm(
            sum(map(len, splits)), generator=torch.Generator().manual_seed(_seed(self.reading.seed, EPOCH, epoch))
        )
        for rows in order.split(size):
            if len(rows) < 2:  # batch norm needs two
                continue
            if cache is not None:
                yield {name: maps[rows] for name, maps in cache.items()}
                continue
            parts = ((splits[0], rows[rows < first]), (splits[1], rows[rows >= first] - first))
            read = [x for split, r in parts if len(r) for _, x in prepared(split, self.net.preprocessing, size, r)]
            yield self.read(torch.cat(read))

    # ---- scoring

    def scored(self, readouts: Mapping[Key, ReadOut]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """A row for each read-out, target and kind of picture; and some predictions to look at."""
        collected: dict[tuple[Key, int, str], list[Scores]] = {}
        shown: dict[str, Any] = {}
        targets = len(self.reading.targets)
        for inputs, rows, maps in self._inputs():
            goals: dict[int, list[Goal]] = {}
            for key, readout in readouts.items():
                predicted = readout.predict(maps)
                size = predicted.shape[-1]
                goals[size] = goals[size] if size in goals else self._compared(size, rows, inputs == PICTURES)
                whole = brought_to(predicted, self.side)
                for t in range(predicted.shape[1] if inputs == PICTURES else targets):
                    collected.setdefault((key, t, inputs), []).append(score(whole[:, t], goals[size][t]))
                if inputs == PICTURES and key[1] == self.shown and not shown:
                    shown = {"site": self.shown, "predicted": pack_maps(predicted[:SHOWN, :targets])}
        return [self._row(*found, parts, readouts[found[0]]) for found, parts in collected.items()], shown

    def _compared(self, size: int, rows: Tensor, pictures: bool) -> list[Goal]:
        """Targets at the size of the pictures; shuffled positions are those of a map of `size`, brought there."""
        if not (self.control and pictures):
            return self._plain
        shuffled = self._goals(size, rows, TEST)[:, len(self._plain) :]
        return [*self._plain, *(Goal.of(target) for target in brought_to(shuffled, self.side).unbind(1))]

    @cached_property
    def _plain(self) -> list[Goal]:
        return [Goal.of(target) for target in stack(self.reading.targets, self.side)]

    def _inputs(self) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """Kind, numbers and maps of a few pictures at a time: a batch at the size that is read is large in float64."""
        how = self.reading
        for part, x in prepared(how.pictures.test, self.net.preprocessing, how.batch):
            yield from ((PICTURES, part[rows], maps) for rows, maps in self._read(x))
        for name in how.blanks:
            x = blank(name, self.net.preprocessing, how.shape(self.net), how.seed)
            yield from ((name, rows, maps) for rows, maps in self._read(x))

    def _read(self, x: Tensor) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """Numbers and maps of `SCORED` pictures of a batch at a time, all of the size that is read."""
        own = self.own(x)
        for rows in torch.arange(len(x)).split(SCORED):
            yield rows, self._whole({name: m[rows] for name, m in own.items()})

    def _row(self, key: Key, t: int, inputs: str, parts: Sequence[Scores], readout: ReadOut) -> dict[str, Any]:
        method, group, kernel = key
        targets = len(self.reading.targets)
        return {
            "readout": method,
            "group": group,
            "kernel": kernel,
            "target": self.reading.targets[t % targets].name,
            "inputs": inputs,
            "shuffled": t >= targets,
            "depth_share": self.shares[group],
            "spc": pack_scores(np.concatenate([part.spc for part in parts])),
            "mae": pack_scores(np.concatenate([part.mae for part in parts])),
            "constant": sum(part.constant for part in parts),
            "size": self.side,
            **_chosen(readout, t),
        }


def _chosen(readout: ReadOut, t: int) -> dict[str, float | None]:
    if not isinstance(readout, LinearReadOut):
        return {"penalty": None, "held_out": None}
    return {"penalty": readout.penalty[t], "held_out": readout.loss[t]}


def parts_of(read: Sequence[tuple[int, Group]]) -> dict[tuple[int, Group], Group]:
    """The read-outs whose taps another of the same kernel has as well, with the one that has most."""
    found = {}
    for k, g in read:
        wider = [h for other, h in read if other == k and set(g.taps) < set(h.taps)]
        if wider:
            found[k, g] = max(wider, key=lambda h: h.channels)
    return found


def worse_than_its_centre(readout: LinearReadOut, name: str, kernel: int, targets: Sequence[str]) -> list[str]:
    """A note for every target that a kernel predicts clearly worse than the 1 x 1 at its centre, which it contains."""
    checked = zip(targets, readout.loss, readout.centre_loss, readout.spread, strict=False)
    return [
        f"The {kernel}x{kernel} ridge read-out of {name!r} predicts {target} on held-out pictures worse than the "
        f"1x1 at its centre (mean squared error {loss:.4f}, {centre:.4f}): there are too few pictures for its "
        f"{readout.group.channels * kernel**2} columns. Give more pictures, or read the 1x1 (kernels 1)."
        for target, loss, centre, spread in checked
        if loss - centre > WORSE * spread
    ]


def _seed(*parts: int) -> int:
    """One seed of several numbers, none of them large."""
    return sum((part + 1) * 1_000_003**i for i, part in enumerate(parts)) % (1 << 62)
