"""How well single channels line up with concepts, beside noise: chosen on some pictures, scored on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.lab.packed import pack_scores, unpack_scores
from whatwhere.resampling import over_groups
from whatwhere.say.inspect import Choice, Overlap, auic, inspectability_curve, matched_counts, thresholds_of
from whatwhere.say.noise import REACH, smooth_noise
from whatwhere.say.studies.broden_places import Places
from whatwhere.say.studies.features import SiteFeatures
from whatwhere.say.studies.measure import Cells
from whatwhere.say.studies.words import ON_BRODEN

SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
SOME = 40  # pictures that thresholds are taken from
AT_ONCE = 8  # pictures
DRAWS = 5  # of channels of noise
APART = 1 << 24  # seeds of halves: the generator takes 32 bits of a seed
MOST = 64  # channels of noise in a draw: an AUiC is a mean over channels, which its level does not depend on
Counts = NDArray[np.float64]  # (groups, channels, 2): pixels in the intersections and in the unions


@dataclass(frozen=True)
class Half:
    """Pictures of one half: where concepts are, and what channels do there.

    Attributes:
        targets: (N, K, h, w) int8: 1 present, 0 absent, -1 not labelled.
        groups: (N,) which pictures belong together.
        channels: from numbers of pictures to activations (n, C, h, w).
    """

    targets: Any
    groups: Tensor
    channels: Callable[[Tensor], Tensor]

    @staticmethod
    def of(held: SiteFeatures, seen: Cells) -> Half:
        """A network's concept maps, or without a bottleneck its features."""
        return Half(
            held.targets, held.split.groups, lambda rows: held.at(rows) if seen.maps is None else seen.maps[rows]
        )

    @staticmethod
    def at_places(places: Places, channels: Callable[[Tensor], Tensor]) -> Half:
        """Places drawn from pictures of Broden+, as if they were one picture."""
        maps = _as_maps(channels(places.features))
        return Half(_as_maps(places.centres).numpy(), torch.zeros(1, dtype=torch.int64), lambda rows: maps)

    def noise(self, width: int, draw: int, part: int) -> Half:
        """Channels that know nothing of these pictures, the same in every call.

        Args:
            width: channels.
            draw: its number.
            part: number of this half: no two pictures get the same noise.
        """
        size = tuple(self.targets.shape[-2:])
        reach = 0.0 if size[1] == 1 else REACH  # places drawn at random have no neighbours

        def drawn(rows: Tensor) -> Tensor:
            seeds = ((2 * draw + part) * APART + row for row in rows.tolist())
            generators = (torch.Generator().manual_seed(seed) for seed in seeds)
            return torch.stack([smooth_noise(width, size, g, reach) for g in generators])

        return Half(self.targets, self.groups, drawn)

    @property
    def rows(self) -> tuple[Tensor, ...]:
        """Numbers of pictures, some at a time."""
        return torch.arange(len(self.targets)).split(AT_ONCE)

    def _targets(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self.targets[rows.numpy()]))

    def _by_group(self, counted: Callable[[Tensor], Tensor]) -> Counts:
        """What is counted of some pictures (n, C, 2), added up by group."""
        _, index = self.groups.unique(return_inverse=True)
        each = torch.cat([counted(rows) for rows in self.rows])
        total = torch.zeros(int(index.max()) + 1, *each.shape[1:], dtype=torch.int64).index_add_(0, index, each)
        found: Counts = total.numpy().astype(np.float64)
        return found

    def overlap(self, limits: Tensor) -> Overlap:
        """How channels and concepts overlap, at every threshold (C, T)."""
        counted = Overlap(len(limits), self.targets.shape[1], limits)
        for rows in self.rows:
            counted.update(self.channels(rows), self._targets(rows))
        return counted

    def matched(self, choice: Choice) -> Counts:
        """How each channel overlaps with its concept, by group."""
        return self._by_group(lambda rows: matched_counts(self.channels(rows), self._targets(rows), choice))

    def always_on(self) -> Counts:
        """The same of channels that are on everywhere, one for each concept: its pixels, and all that are labelled."""

        def counted(rows: Tensor) -> Tensor:
            y = self._targets(rows).flatten(2)
            return torch.stack([(y == 1).sum(2), (y >= 0).sum(2)], 2)

        return self._by_group(counted)


@dataclass(frozen=True)
class Lined:
    """Channels matched with concepts on one half, and scored on the other."""

    chosen: Overlap
    scored: Overlap
    best: Choice
    counts: Counts

    @staticmethod
    def up(validation: Half, test: Half) -> Lined:
        """Chosen on the validation pictures, scored on the test pictures."""
        rows = torch.arange(len(validation.targets))
        limits = thresholds_of(validation.channels(rows[:: max(1, len(rows) // SOME)]), SHARES)
        chosen, scored = (half.overlap(limits) for half in (validation, test))
        best = chosen.best()
        return Lined(chosen, scored, best, test.matched(best))


def in_scenes(
    validation: tuple[SiteFeatures, Cells], test: tuple[SiteFeatures, Cells], *, named: bool, kept: Kept | None = None
) -> dict[str, Any]:
    """Chosen on the validation pictures, scored on the test pictures.

    Args:
        validation: features, and what the network says there.
        test: likewise.
        named: each channel bears the name of a concept.
        kept: noise that was measured before, for as many channels.
    """
    halves = Half.of(*validation), Half.of(*test)
    return _found(halves, named=named, kept=kept)


def in_broden(
    channels: Callable[[Tensor], Tensor],
    calibration: Places,
    validation: Places,
    *,
    named: bool,
    kept: Kept | None = None,
) -> dict[str, Any] | None:
    """Chosen on places of the calibration pictures, scored on those of the validation pictures; None without any.

    Args:
        channels: from features (P, C) to the channels (P, K) that are looked at.
        calibration: places of Broden+.
        validation: places of other pictures of Broden+.
        named: each channel bears the name of a concept.
        kept: noise that was measured before, for as many channels.
    """
    if not len(calibration) or not len(validation):
        return None
    halves = Half.at_places(calibration, channels), Half.at_places(validation, channels)
    return {**_found(halves, named=named, kept=kept), "on": ON_BRODEN, "pictures": validation.pictures}


def _as_maps(values: Tensor) -> Tensor:
    """(P, K) to (1, K, P, 1)."""
    return values.T[None, :, :, None]


def _found(halves: tuple[Half, Half], *, named: bool, kept: Kept | None) -> dict[str, Any]:
    seen = Lined.up(*halves)
    iou = seen.scored.matched(seen.best)
    noise = noise_level(*halves, len(iou), kept)
    always, commonest = halves[1].always_on(), int(seen.chosen.always_on().argmax())
    one = always[:, [commonest]]
    return {
        "auic": auic(iou),
        "iou": [round(v, 4) for v in iou.tolist()],
        "own": seen.scored.score(seen.best).diagonal().tolist() if named else [],
        "concept": seen.best.concept.tolist(),
        "always on": seen.scored.always_on().tolist(),
        "curve": _curve(iou),
        "interval": difference(seen.counts)[1:],
        "noise": {**noise.about, "above": difference(seen.counts, noise.counts)},
        "commonest": {"concept": commonest, "auic": _auic(one.sum(0)), "above": difference(seen.counts, one)},
        **({"named": _named(seen, halves[1], always)} if named else {}),
        "counts": {"shape": list(seen.counts.shape), "packed": pack_scores(seen.counts.flatten())},
    }


def _named(seen: Lined, test: Half, always: Counts) -> dict[str, Any]:
    """How well channels overlap with the concepts that they are named after, and above channels that are always on."""
    own = replace(seen.best, concept=torch.arange(len(seen.best.concept)))
    counts = test.matched(own)
    return {"iou": difference(counts), "always on": _auic(always.sum(0)), "above": difference(counts, always)}


def _curve(iou: Tensor) -> list[float]:
    share: list[float] = inspectability_curve(iou)[1].tolist()
    return share


@dataclass(frozen=True)
class NoiseLevel:
    """What channels of noise reach.

    Attributes:
        about: the AUiC of each draw, their mean, and the curve of them all.
        counts: of the channels of all draws.
    """

    about: Mapping[str, Any]
    counts: Counts


Kept = dict[int, NoiseLevel]  # by width


def noise_level(validation: Half, test: Half, width: int, kept: Kept | None = None) -> NoiseLevel:
    """Several draws of as many channels of noise, chosen and scored as channels are.

    Args:
        validation: pictures to choose on; their channels are not looked at.
        test: pictures to score on; likewise.
        width: channels of the network; at most `MOST` are drawn at a time.
        kept: levels of other calls on the same pictures; this one is added.
    """
    width, kept = min(width, MOST), {} if kept is None else kept
    if width not in kept:
        drawn = [Lined.up(validation.noise(width, d, 0), test.noise(width, d, 1)) for d in range(DRAWS)]
        iou = [each.scored.matched(each.best) for each in drawn]
        levels = [auic(i) for i in iou]
        about = {"auic": float(np.mean(levels)), "draws": levels, "channels": width, "curve": _curve(torch.cat(iou))}
        kept[width] = NoiseLevel(about, np.concatenate([each.counts for each in drawn], 1))
    return kept[width]


def counts_of(inspection: Mapping[str, Any]) -> Counts | None:
    """The counts that a cell kept; None of a cell of an earlier version."""
    if "counts" not in inspection:
        return None
    return unpack_scores(inspection["counts"]["packed"]).reshape(inspection["counts"]["shape"])


def difference(counts: Counts, others: Counts | None = None) -> list[float | None]:
    """An AUiC, or how far it is above another on the same pictures, with its interval over groups.

    Args:
        counts: of the channels.
        others: of the others, if any.

    Returns:
        Value, low, high; no interval (None) of a single group.
    """
    n = counts.shape[1]
    joined = counts if others is None else np.concatenate([counts, others], 1)

    def statistic(total: Counts) -> float:
        return _auic(total[:n]) - (_auic(total[n:]) if others is not None else 0.0)

    if len(counts) < 2:
        return [statistic(joined.sum(0)), None, None]
    drawn = over_groups(joined, statistic, low=0.0 if others is None else -1.0)
    return [drawn.value, drawn.low, drawn.high]


def _auic(total: Counts) -> float:
    """Mean over channels of intersection over union, from both (C, 2)."""
    return float(np.mean(total[:, 0] / np.maximum(total[:, 1], 1)))
