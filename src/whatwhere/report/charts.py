"""Charts that the page draws itself, with values under the pointer and curves to switch on and off: plain data only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whatwhere.report.figures import Line


@dataclass(frozen=True)
class Chart:
    """Curves with intervals; those of one label look alike in all panels, and are switched together.

    Attributes:
        name: of its file of values, and of its place on the page.
        title: above it.
        x: what is along the horizontal axis.
        y: along the vertical one.
        lines: the curves.
        levels: horizontal lines (the intact network), by label.
        controls: labels of curves that are beside the others to compare with; they are drawn thinner and dashed.
        hidden: labels of curves that are switched off at first.
        ticks: names of the places that x counts from 0; none for numbers.
        about: how to read it, in a sentence.
        joined: whether points are joined by lines; if not, the places are no order, and stand one below the other.
    """

    name: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    levels: Mapping[str, float] = field(default_factory=dict)
    controls: Sequence[str] = ()
    hidden: Sequence[str] = ()
    ticks: Sequence[str] = ()
    about: str = ""
    joined: bool = True

    def rows(self) -> list[dict[str, Any]]:
        """One row for each point of each curve."""
        return [row for line in self.lines for row in _rows(line, self.ticks)]

    def plain(self) -> dict[str, Any]:
        """What the page's script draws."""
        labels = dict.fromkeys(line.label for line in self.lines)
        series = [
            {"label": label, "control": label in self.controls, "hidden": label in self.hidden} for label in labels
        ]
        levels = [{"label": label, "y": _number(value)} for label, value in self.levels.items()]
        names = ("name", "title", "x", "y", "about")
        return {
            "kind": "curves" if self.joined else "points",
            **{name: getattr(self, name) for name in names},
            "series": series,
            "levels": levels,
            "ticks": list(self.ticks),
            "rows": self.rows(),
        }


@dataclass(frozen=True)
class Track:
    """A quantity along the network.

    Attributes:
        label: what it is, with its unit.
        values: one for each place; None where it was not measured.
        low: lower ends of the 95 % intervals, or empty.
        high: upper ends, or empty.
        control: of the control at the same places, or empty.
        control_label: what that is.
    """

    label: str
    values: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    control: Sequence[float | None] = ()
    control_label: str = ""


@dataclass(frozen=True)
class Strip:
    """The network as a strip of its places, from the picture to the answer, and quantities along it.

    Attributes:
        name: of its file of values, and of its place on the page.
        title: above it.
        places: their names, in the order of execution.
        tracks: one below the other.
        about: how to read it, in a sentence.
    """

    name: str
    title: str
    places: Sequence[str]
    tracks: Sequence[Track]
    about: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """One row for each place, a column for each quantity."""
        return [
            {"place": place, **{k: v for t in self.tracks for k, v in _at(t, i).items()}}
            for i, place in enumerate(self.places)
        ]

    def plain(self) -> dict[str, Any]:
        """What the page's script draws."""
        tracks = [
            {
                "label": t.label,
                "control_label": t.control_label,
                "points": [
                    {"i": i, "place": place, **{k: _number(v) for k, v in zip(PARTS, _parts(t, i), strict=True)}}
                    for i, place in enumerate(self.places)
                ],
            }
            for t in self.tracks
        ]
        return {
            "kind": "strip",
            "name": self.name,
            "title": self.title,
            "about": self.about,
            "tracks": tracks,
            "rows": self.rows(),
        }


PARTS = ("y", "low", "high", "control")


def _parts(track: Track, i: int) -> tuple[float | None, ...]:
    return tuple(v[i] if v else None for v in (track.values, track.low, track.high, track.control))


def _at(track: Track, i: int) -> dict[str, Any]:
    value, low, high, control = (_number(v) for v in _parts(track, i))
    interval = {f"{track.label}, low": low, f"{track.label}, high": high} if track.low else {}
    return {track.label: value, **interval, **({track.control_label: control} if track.control else {})}


def _rows(line: Line, ticks: Sequence[str]) -> list[dict[str, Any]]:
    ends = zip(line.low, line.high, strict=True) if line.low else ((None, None) for _ in line.x)
    return [
        {
            **({"panel": line.panel} if line.panel else {}),
            "series": line.label,
            "x": _number(x),
            **({"place": ticks[round(x)]} if ticks else {}),
            "y": _number(y),
            "low": _number(low),
            "high": _number(high),
        }
        for x, y, (low, high) in zip(line.x, line.y, ends, strict=True)
    ]


def _number(value: float | None) -> float | None:
    """A number that JSON can hold."""
    return None if value is None or not math.isfinite(value) else float(value)


def as_script(charts: Sequence[Chart | Strip]) -> str:
    """The charts as JSON that can stand inside a script element: no tag can begin or end in it."""
    text = json.dumps([c.plain() for c in charts], ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
