"""From finished cells to rows: accuracies before and after, and the share of the lost accuracy that came back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from whatwhere.intervals import PICTURES, SEEDS, Estimate, crossed_half_width, over_networks
from whatwhere.lab.packed import unpack
from whatwhere.lab.rows import Row, accuracy, difference
from whatwhere.lab.study import Finished
from whatwhere.need.studies.curve_points import ITSELF
from whatwhere.need.studies.recover_course import FROM, HIGH, LOW, MEAN
from whatwhere.need.studies.recover_result import (
    ACCURACY,
    AGREEMENT,
    BELOW,
    GAINED,
    GIVEN,
    RECOVERED,
    label_of,
    name_of,
)
from whatwhere.need.studies.recover_worker import TEST
from whatwhere.training.fit import ENOUGH

Hits: TypeAlias = NDArray[np.bool_]  # (N,) which pictures are right
Gaps: TypeAlias = NDArray[np.float64]  # (N,) differences of two of them
Pair: TypeAlias = tuple[Hits, Hits]


class Made(NamedTuple):
    """A fine-tuned network: collapsed before a site or intact (None), and of an intact one where its prefix ends."""

    site: str | None
    before: str | None = None


@dataclass(frozen=True)
class Fold:
    """What is finished.

    Attributes:
        done: the cells.
        shares: of the convolutions without spatial information, by site, in the order of the rows.
        seeds: in the order of the rows.
        frozen: whether prefixes were, so that each site has a control of its own.
        score: of which pictures are right, by name.
    """

    done: Finished
    shares: Mapping[str, float]
    seeds: Sequence[int]
    frozen: bool = False
    score: str = ACCURACY

    @cached_property
    def before(self) -> dict[str | None, Hits]:
        """By site (None: intact), before fine-tuning."""
        return {config["site"]: _hits(result) for config, result in self.done if config["do"] == TEST}

    @cached_property
    def tuned(self) -> dict[tuple[Made, int], Mapping[str, Any]]:
        """By network and seed, the results of fine-tuning."""
        return {(Made(c["site"], c.get(FROM)), c["seed"]): result for c, result in self.done if "seed" in c}

    @cached_property
    def after(self) -> dict[tuple[Made, int], Hits]:
        """By network and seed, after it."""
        return {key: _hits(result) for key, result in self.tuned.items()}

    def control(self, site: str) -> Made:
        """The intact network that was fine-tuned like one that is collapsed before a site."""
        return Made(None, site if self.frozen else None)

    @property
    def made(self) -> list[Made]:
        """The fine-tuned networks, in the order of the rows."""
        every = [*map(self.control, self.shares), *map(Made, self.shares)]
        return [each for each in dict.fromkeys(every) if self._trained(each)]

    def rows(self) -> Iterator[Row]:
        """The intact network, then each collapsed one: as it was given, and fine-tuned."""
        for site in (None, *self.shares):
            if site in self.before:
                yield self._row(Made(site), False, self.seeds)
            for each in self.made:
                if each.site == site:
                    yield self._row(each, True, self._trained(each))

    def each(self) -> Iterator[Row]:
        """Every fine-tuned network, with its intervals over test pictures."""
        return (self._row(each, True, [seed]) for each in self.made for seed in self._trained(each))

    def weights(self) -> dict[str, list[str]]:
        """By row, where its fine-tuned networks are kept, in the order of the seeds."""
        kept = {each: [self.tuned[each, s]["weights"] for s in self._trained(each)] for each in self.made}
        return {name_of(each.site, True, each.before): files for each, files in kept.items()}

    def ends(self, epochs: int) -> Iterator[str]:
        """Where trainings ended that could end early."""
        for each in self.made:
            for seed in self._trained(each):
                history = self.tuned[each, seed].get("epochs") or [{}]
                if ENOUGH in history[-1]:
                    yield _end_of(f"{each.site}, seed {seed}", history, epochs)

    def _trained(self, made: Made) -> list[int]:
        """The seeds whose fine-tuning of a network is finished."""
        return [s for s in self.seeds if (made, s) in self.after]

    def _row(self, made: Made, tuned: bool, seeds: Sequence[int]) -> Row:
        own = [self.after[made, s] for s in seeds] if tuned else [self.before[made.site]]
        itself = self.score == AGREEMENT and made.site is None and not tuned
        measured = {self.score: _with_itself(len(own[0])) if itself else accuracy(np.stack(own))}
        values = {self.score: tuple(float(h.mean()) for h in own)}
        for name, pairs in self._pairs(made, tuned, seeds).items():
            measured[name], values[name] = paired(pairs), tuple(float(gaps(p).mean()) for p in pairs)
        if tuned and (share := self._recovered(made.site, seeds)):
            measured[RECOVERED] = share
        label = label_of(made.site, tuned, self.shares, made.before)
        return Row(name_of(made.site, tuned, made.before), label, measured, values)

    def _pairs(self, made: Made, tuned: bool, seeds: Sequence[int]) -> dict[str, list[Pair]]:
        """By measure, pairs of the same seed and the same pictures: the first minus the second is measured."""
        site = made.site
        ours = {s: self.after[made, s] if tuned else self.before[site] for s in seeds if tuned or site in self.before}
        found: dict[str, list[Pair]] = {BELOW: [], GIVEN: [], GAINED: []}
        for seed, own in ours.items():
            control = self._control(made, tuned, seed)
            if control is not None:
                found[BELOW].append((control, own))
            if tuned and site and None in self.before:
                found[GIVEN].append((self.before[None], own))
            if tuned and site in self.before:
                found[GAINED].append((own, self.before[site]))
        return {name: pairs for name, pairs in found.items() if pairs}

    def _control(self, made: Made, tuned: bool, seed: int) -> Hits | None:
        """What a network is compared with: of the intact one before fine-tuning, any control that is alone."""
        if made.site is None and (tuned or self.frozen):
            return None
        return self.after.get((self.control(made.site) if made.site else Made(None), seed))

    def _recovered(self, site: str | None, seeds: Sequence[int]) -> Estimate | None:
        """The share of the accuracy lost that came back, of the seeds whose control is finished."""
        if site is None or site not in self.before:
            return None
        pairs = [(self.after[Made(site), s], self.after.get((self.control(site), s))) for s in seeds]
        there = [(own, control) for own, control in pairs if control is not None]
        gained = [gaps((own, self.before[site])) for own, _ in there]
        lost = [gaps((control, self.before[site])) for _, control in there]
        return share_of(gained, lost) if there else None


def _with_itself(n: int) -> Estimate:
    """Agreement of the network as it was given with itself, by definition."""
    return Estimate(1.0, 1.0, 1.0, 0.0, n, 1, ITSELF)


def _end_of(name: str, history: Sequence[Mapping[str, float]], epochs: int) -> str:
    last = history[-1]
    why = "was enough" if last[ENOUGH] else "was not enough"
    behind = f"{100 * last[MEAN]:.2f} points [{100 * last[LOW]:.2f}, {100 * last[HIGH]:.2f}] below the intact network"
    return f"{name}: epoch {len(history)} of {epochs} {why}: {behind} on {last['held_out']} held-out pictures."


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
