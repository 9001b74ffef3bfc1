"""From finished cells to rows: accuracies before and after, and the share of the lost accuracy that came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from whatwhere.intervals import PICTURES, SEEDS, Estimate, crossed_half_width, over_networks
from whatwhere.lab.packed import unpack
from whatwhere.lab.rows import Row, accuracy, difference
from whatwhere.lab.study import Finished
from whatwhere.need.studies.recover_result import ACCURACY, BELOW, GAINED, RECOVERED, label_of, name_of
from whatwhere.need.studies.recover_worker import TEST

Hits: TypeAlias = NDArray[np.bool_]  # (N,) which pictures are right
Gaps: TypeAlias = NDArray[np.float64]  # (N,) differences of two of them
Pair: TypeAlias = tuple[Hits, Hits]


@dataclass(frozen=True)
class Fold:
    """What is finished.

    Attributes:
        done: the cells.
        shares: of the convolutions without spatial information, by site, in the order of the rows.
        seeds: in the order of the rows.
    """

    done: Finished
    shares: Mapping[str, float]
    seeds: Sequence[int]

    @cached_property
    def before(self) -> dict[str | None, Hits]:
        """By site (None: intact), before fine-tuning."""
        return {config["site"]: _hits(result) for config, result in self.done if config["do"] == TEST}

    @cached_property
    def after(self) -> dict[tuple[str | None, int], Hits]:
        """By site and seed, after it."""
        return {(site, seed): _hits(result) for (site, seed), result in self.done.by("site", "seed").items()}

    def rows(self) -> Iterator[Row]:
        """The intact network, then each collapsed one: as it was given, and fine-tuned."""
        for site in (None, *self.shares):
            if site in self.before:
                yield self._row(site, False, self.seeds)
            if self._trained(site):
                yield self._row(site, True, self._trained(site))

    def each(self) -> Iterator[Row]:
        """Every fine-tuned network, with its intervals over test pictures."""
        return (self._row(site, True, [seed]) for site in (None, *self.shares) for seed in self._trained(site))

    def weights(self) -> dict[str, list[str]]:
        """By row, where its fine-tuned networks are kept, in the order of the seeds."""
        found = self.done.by("site", "seed")
        sites = [site for site in (None, *self.shares) if self._trained(site)]
        return {name_of(site, True): [found[site, s]["weights"] for s in self._trained(site)] for site in sites}

    def _trained(self, site: str | None) -> list[int]:
        """The seeds whose fine-tuning from a site is finished."""
        return [s for s in self.seeds if (site, s) in self.after]

    def _row(self, site: str | None, tuned: bool, seeds: Sequence[int]) -> Row:
        own = [self.after[site, s] for s in seeds] if tuned else [self.before[site]]
        measured = {ACCURACY: accuracy(np.stack(own))}
        values = {ACCURACY: tuple(float(h.mean()) for h in own)}
        for name, pairs in self._pairs(site, tuned, seeds).items():
            measured[name], values[name] = paired(pairs), tuple(float(gaps(p).mean()) for p in pairs)
        if tuned and (share := self._recovered(site, seeds)):
            measured[RECOVERED] = share
        return Row(name_of(site, tuned), label_of(site, tuned, self.shares), measured, values)

    def _pairs(self, site: str | None, tuned: bool, seeds: Sequence[int]) -> dict[str, list[Pair]]:
        """By measure, pairs of the same seed and the same pictures: the first minus the second is measured."""
        controlled = [s for s in seeds if (None, s) in self.after and (site or not tuned)]
        below = [(self.after[None, s], self.after[site, s] if tuned else self.before[site]) for s in controlled]
        gained = [(self.after[site, s], self.before[site]) for s in seeds if tuned and site in self.before]
        return {name: pairs for name, pairs in ((BELOW, below), (GAINED, gained)) if pairs}

    def _recovered(self, site: str | None, seeds: Sequence[int]) -> Estimate | None:
        """The share of the accuracy lost that came back, of the seeds whose control is finished."""
        there = [s for s in seeds if site and site in self.before and (None, s) in self.after]
        gained = [gaps((self.after[site, s], self.before[site])) for s in there]
        lost = [gaps((self.after[None, s], self.before[site])) for s in there]
        return share_of(gained, lost) if there else None


def _hits(result: Mapping[str, Any]) -> Hits:
    return unpack(result["hits"]).astype(bool)


def gaps(pair: Pair) -> Gaps:
    """Picture by picture, the first minus the second: 1, 0 or -1."""
    return pair[0].astype(float) - pair[1]


def paired(pairs: Sequence[Pair]) -> Estimate:
    """The difference of two accuracies, over seeds and pictures; of a single seed over its pictures."""
    first, second = (np.stack(each) for each in zip(*pairs, strict=True))
    return difference(first, second)


def share_of(gained: Sequence[Gaps], lost: Sequence[Gaps]) -> Estimate | None:
    """The share of a loss that came back, with Fieller's 95 % interval, over seeds and pictures.

    The interval holds every share that the paired differences `gained - share · lost` do not contradict.

    Args:
        gained: of each seed, (N,) what fine-tuning changed at each picture.
        lost: likewise, what had been lost.

    Returns:
        None where the loss is not significant: a share of nothing says nothing.
    """
    back, loss = np.stack(gained), np.stack(lost)
    if loss.shape[1] < 2 or over_networks(loss, counted=True).low <= 0:
        return None
    share = float(back.mean() / loss.mean())
    low, high = (_end(back, loss, share, towards) for towards in (-1, 1))
    seeds, n = loss.shape
    return Estimate(share, low, high, 0.0, n, seeds, SEEDS if seeds > 1 else PICTURES)


def _end(gained: Gaps, lost: Gaps, share: float, towards: int) -> float:
    """The nearest share on one side whose difference is just significant; there is one, as the loss is."""

    def beyond(step: float) -> float:
        rest = gained - (share + towards * step) * lost
        return abs(float(rest.mean())) - crossed_half_width(rest, counted=True)

    far = 1.0
    while beyond(far) <= 0:
        far *= 2
    return share + towards * float(brentq(beyond, 0.0, far))
