"""One row of a comparison of bottlenecks: a kind at a site, with its measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from whatwhere.intervals import LEVEL


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval.

    Attributes:
        value: on all groups of test pictures; of several seeds that of their mean counts.
        low: lower end of the interval.
        high: upper end.
        groups: of test pictures.
        covers: what the interval allows for.
        level: how often such an interval holds the truth.
    """

    value: float
    low: float
    high: float
    groups: int
    covers: str = ""
    level: float = LEVEL

    @property
    def resolves(self) -> float:
        """Half the width of the interval: a smaller value cannot be told from 0."""
        return (self.high - self.low) / 2

    def percent(self, sign: bool = False) -> str:
        """For a table: value and interval, in per cent."""
        form = "+.2f" if sign else ".2f"
        return f"{100 * self.value:{form}} [{100 * self.low:{form}}, {100 * self.high:{form}}]"


@dataclass(frozen=True)
class SayRow:
    """One kind at one site.

    Attributes:
        site: where.
        kind: of bottleneck; see `compare.KINDS`.
        channels: what everything behind the site rests on.
        names: of the concepts; numbers for unnamed ones.
        miou: mean intersection over union, pooled over the test pictures; of several seeds from their mean confusions.
        accuracy: share of labelled pixels that are right.
        change: of the mIoU from the intact network's, paired; it contains what the fine-tuning alone does.
        seeds: mIoU of each.
        iou: of each class; None for one that neither occurs nor is predicted.
        against: the difference of the mIoU from other kinds at this site that were fine-tuned alike, paired: `tuned`,
            without a bottleneck, and `learned`, of the same width.
        extras: of the first seed: confidence, inspection, failures, leakage, where they were measured.
    """

    site: str
    kind: str
    channels: int
    names: tuple[str, ...]
    miou: Interval
    accuracy: Interval
    change: Interval | None
    seeds: tuple[float, ...]
    iou: tuple[float | None, ...]
    extras: Mapping[str, Any] = field(default_factory=dict)
    against: Mapping[str, Interval] = field(default_factory=dict)


def row_of(rows: tuple[SayRow, ...], site: str, kind: str) -> SayRow | None:
    """The row of a site and kind, if it was measured."""
    return next((r for r in rows if (r.site, r.kind) == (site, kind)), None)


def sites_of(rows: tuple[SayRow, ...]) -> tuple[str, ...]:
    """The sites of some rows, in their order."""
    return tuple(dict.fromkeys(r.site for r in rows))
