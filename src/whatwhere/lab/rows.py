"""What some studies share: a result of a few rows, each with shares of pictures over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from whatwhere.errors import InputError, unknown
from whatwhere.intervals import PICTURES, Estimate, binomial, over_counts, over_networks
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import COLOURS, MARKERS, STYLE, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ONE_SEED = "There is one seed: 95 % intervals are over test pictures only and do not contain the noise of training."
SEEDS = (
    "95 % intervals are over seeds and test pictures: they contain the noise of training. In result.json, `fixed` is "
    "the one over seeds alone, which holds for these very test pictures."
)
OWN_PICTURES = (
    "95 % intervals are over seeds, each with test pictures of its own: they contain the noise of training and that of "
    "pictures."
)

PUBLISHED = "{}, published"


@dataclass(frozen=True)
class Row:
    """One network of a study.

    Attributes:
        name: the argument's word for it.
        label: how tables call it.
        measured: by measure ("similar", "accuracy"), over seeds, in [0, 1] ([-1, 1] for a difference).
        values: by measure, of each seed.
        published: by measure, what the paper reports, in [0, 1].
    """

    name: str
    label: str
    measured: Mapping[str, Estimate]
    values: Mapping[str, tuple[float, ...]]
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RowsResult(Result):
    """What was measured, and all that it rests on.

    Attributes:
        rows: the networks.
        data: the pictures: names, sizes, fingerprints.
        settings: everything else that decides the numbers.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    plotted: ClassVar[tuple[str, ...]]  # measures in the figure

    rows: tuple[Row, ...]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def __getitem__(self, name: str) -> Row:
        """The row of a name."""
        return next(r for r in self.rows if r.name == name)

    def records(self) -> Iterable[dict[str, Any]]:
        """One record for each row and measure."""
        return (
            {"name": r.name, "label": r.label, "measure": m, **asdict(e), "values": r.values.get(m)}
            for r in self.rows
            for m, e in r.measured.items()
        )

    def table(self) -> list[dict[str, Any]]:
        """One line for each row, in per cent."""
        lines = [self._line(r) for r in self.rows]
        columns = dict.fromkeys(name for line in lines for name in line)
        return [{name: line.get(name, "") for name in columns} for line in lines]

    def plot(self) -> Figure:
        """The rows one below the other, with their intervals, beside what was published and chance."""
        return rows_figure(self.rows, self.plotted, chance=self.chance, title=self.title)

    def chart(self, name: str, x: str = "accuracy (%)", measures: Sequence[str] = ()) -> Chart:
        """The same, as the page draws it.

        Args:
            name: of the chart, and of the figure in a file.
            x: what is measured.
            measures: which; those that the figure shows, if not given.
        """
        measures = measures or self.plotted
        known = [m for m in measures if any(m in r.published for r in self.rows)]
        lines = [*(measured_line(self.rows, m) for m in measures), *(published_line(self.rows, m) for m in known)]
        levels = {} if self.chance is None else {"chance": 100 * self.chance}
        hollow = [PUBLISHED.format(m) for m in known]
        return Chart(name, self.title, x, x, lines, levels, hollow, (), [r.label for r in self.rows], joined=False)

    @property
    def chance(self) -> float | None:
        """The accuracy of a guess, in [0, 1], if the figure shows it."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """Above the figure."""
        raise NotImplementedError

    @property
    def facts(self) -> dict[str, Any]:
        """What the page lists below."""
        return {"data": self.data, "settings": self.settings, **self.provenance}

    def _line(self, row: Row) -> dict[str, str]:
        line = {"row": row.name, "network": row.label}
        published = {m for r in self.rows for m in r.published}
        for measure, e in row.measured.items():
            line |= {
                f"{measure} %": f"{100 * e.mean:.2f}",
                f"{measure} 95 %": f"[{100 * e.low:.2f}, {100 * e.high:.2f}]",
            }
            if measure in published:
                seen = row.published.get(measure)
                line[f"{measure} published %"] = "" if seen is None else f"{100 * seen:.1f}"
        first = next(iter(row.measured.values()))
        return {**line, "95 % covers": first.covers, "seeds": str(first.repeats), "pictures": str(first.n)}


def measured_line(rows: Sequence[Row], measure: str) -> Line:
    """What was measured of each row, in per cent, with its interval; x counts the rows from 0."""
    found = [(float(i), r.measured[measure]) for i, r in enumerate(rows) if measure in r.measured]
    mean, low, high = (tuple(100 * getattr(e, part) for _, e in found) for part in ("mean", "low", "high"))
    return Line(measure, tuple(i for i, _ in found), mean, low, high)


def published_line(rows: Sequence[Row], measure: str) -> Line:
    """What a paper reports of each row, in per cent."""
    known = {float(i): 100 * r.published[measure] for i, r in enumerate(rows) if measure in r.published}
    return Line(PUBLISHED.format(measure), tuple(known), tuple(known.values()))


def accuracy(hits: NDArray[np.bool_]) -> Estimate:
    """Share of right pictures, over seeds and pictures; of a single seed the exact interval over its pictures.

    Args:
        hits: (seeds, pictures), which pictures each network got right.
    """
    if len(hits) == 1:
        return _alone(int(hits.sum()), hits.shape[1])
    return over_networks(hits.astype(np.float64), counted=True, low=0.0)


def difference(hits: NDArray[np.bool_], others: NDArray[np.bool_]) -> Estimate:
    """Difference of two accuracies, paired by seed and picture, over both.

    Args:
        hits: (seeds, pictures), which pictures each network got right.
        others: likewise, of the networks to subtract.
    """
    return over_networks(hits.astype(np.float64) - others, counted=True)


def accuracy_of_counts(right: Sequence[int], n: int, *, same: bool = False) -> Estimate:
    """Share of right pictures, of which only their number is known; of a single seed the exact interval.

    Args:
        right: how many of the pictures were right, for each seed.
        n: pictures of each.
        same: all seeds have the same pictures, otherwise each its own.
    """
    if len(right) == 1:
        return _alone(right[0], n)
    shares = [r / n for r in right]
    return over_counts(shares, [p * (1 - p) * n / max(1, n - 1) for p in shares], n, same=same, low=0.0)


def difference_of_counts(better: Sequence[int], worse: Sequence[int], n: int) -> Estimate:
    """Difference of two accuracies on paired pictures, of which every seed has its own.

    Args:
        better: pairs in which only the first picture was right, for each seed.
        worse: pairs in which only the second one was.
        n: pairs of each.
    """
    means = [(b - w) / n for b, w in zip(better, worse, strict=True)]
    squares = [(b + w) / n for b, w in zip(better, worse, strict=True)]
    return over_counts(means, [(q - m**2) * n / max(1, n - 1) for m, q in zip(means, squares, strict=True)], n)


def _alone(right: int, n: int) -> Estimate:
    return Estimate(right / n, *binomial(right, n), 0.0, n, 1, PICTURES)


def rows_figure(
    rows: Sequence[Row], measures: Sequence[str], *, chance: float | None, title: str, x: str = "accuracy (%)"
) -> Figure:
    """Rows one below the other: a marker and an interval for each measure, hollow grey where it was published.

    Args:
        rows: from above.
        measures: which of their measures.
        chance: a line there, and the whole range of accuracies, in [0, 1]; None draws the range that was measured.
        title: above the axes.
        x: along the horizontal axis.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.6 + 0.55 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        if chance is not None:
            axes.axvline(100 * chance, color="0.25", lw=1, ls=(0, (6, 2)), label=f"chance: {100 * chance:.1f} %")
            axes.set_xlim(-3, 103)
        for i, measure in enumerate(measures):
            _draw_measure(axes, rows, measure, i, (i - (len(measures) - 1) / 2) * 0.3)
        axes.set_yticks(range(len(rows)), [r.label for r in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(x)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def _draw_measure(axes: Axes, rows: Sequence[Row], measure: str, i: int, offset: float) -> None:
    known = [(100 * r.published[measure], y + offset) for y, r in enumerate(rows) if measure in r.published]
    if known:
        x, y = zip(*known, strict=True)
        axes.plot(x, y, MARKERS[i], ms=10, mfc="none", mec="0.55", ls="", label=f"{measure}, published", zorder=2)
    found = [r.measured[measure] for r in rows]
    ends = [[100 * (e.mean - e.low) for e in found], [100 * (e.high - e.mean) for e in found]]
    axes.errorbar(
        [100 * e.mean for e in found],
        np.arange(len(rows)) + offset,
        xerr=np.maximum(ends, 0),
        fmt=MARKERS[i],
        ms=6,
        color=COLOURS[i],
        mec="white",
        ecolor=COLOURS[i],
        capsize=3,
        lw=1.2,
        label=measure,
        zorder=3,
    )


def checked_names(argument: str, names: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    """Names without repetition, in their order.

    Raises:
        InputError: if there are none, or one is unknown.
    """
    choices = list(known)
    for name in names:
        if name not in choices:
            raise unknown(argument, name, choices)
    if not names:
        raise InputError(f"{argument} is empty; give at least one of {', '.join(choices)}.")
    return tuple(dict.fromkeys(names))


def checked_seeds(seeds: Iterable[int]) -> tuple[int, ...]:
    """Seeds without repetition.

    Raises:
        InputError: if there are none, or one is not a whole number of at least 0.
    """
    given = tuple(dict.fromkeys(seeds))
    if not given or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in given):
        raise InputError(f"seeds={given}: give at least one whole number, each 0 or more.")
    return given


def checked_counts(**counts: int) -> None:
    """Refuse a count that is not a whole number of at least 1.

    Raises:
        InputError: naming it.
    """
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name}={value!r}: give a whole number of at least 1.")
