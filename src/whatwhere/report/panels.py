"""Figures of several panels: one curve each per target, and maps beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whatwhere.report.figures import STYLE, Line, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DENSE = 40  # points of a curve: with more, no marker on each


def panels_figure(
    panels: Mapping[str, Sequence[Line]],
    ticks: Sequence[str],
    *,
    title: str = "",
    x: str = "",
    y: str | Mapping[str, str] = "",
    columns: int = 3,
    width: float = 3.3,
) -> Figure:
    """Curves over named places, a panel for each entry, with one legend.

    Args:
        panels: curves by panel title; x counts places from 0. The same label has the same colour everywhere.
        ticks: names of the places; none for numbers.
        title: above all.
        x: along the horizontal axis, of numbers.
        y: along the vertical axis, which all panels share; or by panel title, each with an axis of its own.
        columns: panels in a row.
        width: of a panel, in inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(line.label for lines in panels.values() for line in lines))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        size = (width * min(columns, len(panels)) + 0.4, 2.7 * rows + 0.9 + 0.2 * (len(labels) // 3))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, min(columns, len(panels)), sharey=isinstance(y, str), squeeze=False).ravel()
        for at, (name, lines) in zip(axes, panels.items(), strict=False):
            for line in lines:
                _panel_line(at, line, labels.index(line.label))
            at.set_title(name, loc="left", fontsize=10)
            if ticks:
                at.set_xticks(range(len(ticks)), ticks, rotation=40, ha="right", fontsize=8)
                at.set_xlim(-0.5, len(ticks) - 0.5)
            else:
                at.set_xlabel(x)
            at.axhline(0, color="0.6", lw=0.8)
        for at in axes[len(panels) :]:
            at.set_axis_off()
        _name_vertical(list(axes[: len(panels)]), panels, y, min(columns, len(panels)))
        handles = {h.get_label(): h for at in axes for h in at.get_lines() if not h.get_label().startswith("_")}
        fitting = _entries_that_fit(size[0], handles)
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=fitting, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _entries_that_fit(width: float, labels: Iterable[str]) -> int:
    """Entries of a legend that stand side by side in a figure as many inches wide."""
    return max(1, int(width / (0.6 + 0.075 * max(map(len, labels), default=0))))  # handle and gaps; a letter at 9 pt


def _name_vertical(axes: Sequence[Any], panels: Mapping[str, Any], y: str | Mapping[str, str], columns: int) -> None:
    """What is along the vertical axes: at the first of each row where they are shared, else at every one."""
    for i, (at, panel) in enumerate(zip(axes, panels, strict=True)):
        if not isinstance(y, str):
            at.set_ylabel(y[panel])
        elif i % columns == 0:
            at.set_ylabel(y)


def _panel_line(axes: Any, line: Line, number: int) -> None:
    colour, style = look(number)
    if len(line.x) > DENSE:
        style = style[1:]
    axes.plot(line.x, line.y, style, ms=5, mec="white", lw=1.5, color=colour, label=line.label)
    if line.low:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, lw=0)


def maps_figure(
    rows: Mapping[str, Sequence[Any]],
    columns: Sequence[str],
    *,
    title: str = "",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Maps beside each other: a row each, its name at its left.

    Args:
        rows: (h, w) maps, or (h, w, 3) pictures, by row name; None leaves a place empty.
        columns: the names of the columns.
        title: above all.
        limits: values that are drawn darkest and lightest; None: each map's own least and greatest.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "axes.grid": False}):
        tall = [_tallest(maps) for maps in rows.values()]
        size = (1.25 * len(columns) + 1.6, 1.2 * sum(tall) + 0.12 * len(rows) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=tall)
        for at_row, (name, maps) in zip(axes, rows.items(), strict=True):
            for at, values in zip(at_row, maps, strict=True):
                _map(at, values, limits)
            at_row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for at, name in zip(axes[0], columns, strict=True):
            at.set_title(name, fontsize=9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _tallest(maps: Sequence[Any]) -> float:
    """Height by width of the tallest map of a row."""
    shapes = [np.asarray(values).shape for values in maps if values is not None]
    return max((shape[0] / shape[1] for shape in shapes), default=1.0)


def _map(axes: Any, values: Any, limits: tuple[float, float] | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if values is not None:
        low, high = limits or (None, None)  # of pictures, matplotlib leaves them aside
        axes.imshow(np.asarray(values), cmap="cividis", interpolation="nearest", vmin=low, vmax=high)
