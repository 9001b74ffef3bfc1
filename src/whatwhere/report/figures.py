"""Figures: drawn without a screen, in colours that colour-blind readers tell apart."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whatwhere.files import write_bytes

if TYPE_CHECKING:  # matplotlib takes a second to import, and --help does not need it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, and a marker each, so that colour is never the only difference.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX<>hp*8d"  # of the lines that have a colour for the second time others, and these are dashed
ALONG = 44  # letters of a label that the vertical axis is long enough for
KINDS = ("svg", "png")  # of the files of a figure
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "whatwhere",  # the same figure is the same file
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        label: in the legend.
        x: in per cent.
        y: in per cent, or another unit that the figure's axis names.
        low: lower ends of the 95 % intervals, or empty.
        high: upper ends, or empty.
        panel: of a page's chart of several panels, the title of that which it is in.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    panel: str = field(default="", kw_only=True)


def curve_figure(
    lines: Sequence[Line],
    levels: Mapping[str, float],
    references: Sequence[Line] = (),
    *,
    title: str = "",
    x: str = "share of layers without spatial information, from the last (%)",
    y: str = "accuracy (%)",
    unit: str = "%",
) -> Figure:
    """A quantity over depth: of accuracy, over the share of convolutions without spatial information.

    Args:
        lines: measured curves, with intervals.
        levels: horizontal lines (the intact network), by label.
        references: curves of others, drawn grey and dashed.
        title: above the axes.
        x: what is along the horizontal axis.
        y: along the vertical one.
        unit: of the levels.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    least = min((v for line in lines for v in (*line.y, *line.low)), default=0.0)
    digits = 1 if unit else 3
    with mpl.rc_context(STYLE):
        rows = (len(lines) + len(levels) + len(references) + 1) // 2
        figure = Figure(figsize=(7.2, 4.2 + 0.22 * rows), layout="constrained")
        axes = figure.add_subplot()
        for i, line in enumerate(references):
            axes.plot(line.x, line.y, "--" if i == 0 else ":", color="0.55", lw=1.4, label=line.label, zorder=1)
        for i, (label, level) in enumerate(levels.items()):
            dashes = (0, (max(6 - 3 * i, 1), 2))
            named = f"{label}: {level:.{digits}f} {unit}".strip()
            axes.axhline(level, color="0.25", lw=1, ls=dashes, label=named, zorder=2)
        for i, line in enumerate(lines):
            _draw(axes, line, *look(i))
        axes.set_xlabel(x)
        axes.set_ylabel(textwrap.fill(y, ALONG))
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_ylim(bottom=0 if unit or least >= 0 else None)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)  # beside the axes it hides no point
    return figure


def look(number: int) -> tuple[str, str]:
    """Colour and style of a line by its number, from 0; no two of the first fourteen look alike."""
    dashed = number // len(COLOURS) % 2
    return COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)] + ("--" if dashed else "-")


def _draw(axes: Axes, line: Line, colour: str, style: str) -> None:
    axes.plot(line.x, line.y, style, ms=6, mec="white", lw=1.7, color=colour, label=line.label, zorder=3)
    if line.low:
        errors = np.abs(np.array([line.low, line.high]) - np.array(line.y))
        shown = np.isfinite(errors).all(0) & (errors.max(0) > 0)  # a bar without length would look like a measurement
        x, y = np.array(line.x)[shown], np.array(line.y)[shown]
        axes.errorbar(x, y, errors[:, shown], fmt="none", ecolor=colour, capsize=3, lw=1.2, zorder=4)


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure as SVG and PNG, atomically."""
    for kind in KINDS:
        write_bytes(Path(folder) / f"{name}.{kind}", rendered(figure, kind))


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure's file content."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
