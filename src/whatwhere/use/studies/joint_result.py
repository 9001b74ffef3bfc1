"""The joint study's result: position held and accuracy kept at every depth, of each method and the plain network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.intervals import Estimate
from whatwhere.lab.rows import Row, RowsResult
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.report.page import Report, Table
from whatwhere.report.panels import panels_figure
from whatwhere.use.studies.compare_result import NONE

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

RGB = "rgb"  # the read-out's name for the raw input
SPC, FRESH, ACCURACY, LOST = "SPC", "SPC untrained", "accuracy", "lost"
MEAN = "mean over depths"
WHERE = "spatial information"
SINGLE = "single sites with more, with less"
HOLD, NEED = "Hold: position read out of a site", "Need: shuffled from a site on"
LEAD = (
    "Hold: absolute position is read out of the frozen features of each trained network (Spearman's rank correlation, "
    "mean over targets). Need: the same networks are tested with positions shuffled from each site on, and compared by "
    "the share of accuracy they lose. Differences are paired by seed: a method minus the plain network."
)


def above(measure: str) -> str:
    """The name of a measure's paired difference from the plain network."""
    return f"{measure} above {NONE}"


def name_of(method: str, site: str) -> str:
    """The name of a row."""
    return f"{method} at {site}"


@dataclass(frozen=True)
class JointResult(RowsResult):
    """Position held and accuracy lost, a row for each method and site, and one for their mean over depths."""

    kind: ClassVar[str] = "recalibration, joint"

    @property
    def methods(self) -> list[str]:
        """The methods that have rows, the plain network first."""
        return list(dict.fromkeys(r.label for r in self.rows))

    @property
    def sites(self) -> list[str]:
        """The measured sites, in execution order."""
        return list(self.settings["look"]["sites"])

    def at(self, method: str, site: str) -> Row:
        """One row; `site` may also be `rgb`, `intact`, or "mean over depths"."""
        return self[name_of(method, site)]

    @property
    def conclusion(self) -> str:
        """For each method: whether it holds and needs more than the plain network; a number in each sentence."""
        head = f"Compared with the plain network of the same seed, mean over {len(self.sites)} depths:"
        return " ".join([head, *(sentence for m in self.methods if m != NONE for sentence in self._sentences(m))])

    def differences(self) -> list[dict[str, str]]:
        """What the conclusion rests on: of each method, the differences from the plain network over all depths."""
        return [self._differences(m) for m in self.methods if m != NONE]

    @property
    def title(self) -> str:
        """Above the figure."""
        return f"{self.settings['model']} on {self.data.get('name', 'data')}"

    def table(self) -> list[dict[str, Any]]:
        """One line for each method and site, with the untrained network's values and the differences from `none`."""
        return [self._joint_line(r) for r in self.rows]

    def plot(self) -> Figure:
        """Two panels over the same depths: position held, and accuracy kept when shuffled from there on."""
        hold, need = self.charts()
        panels, y = {HOLD: hold.lines, NEED: need.lines}, {HOLD: hold.y, NEED: need.y}
        return panels_figure(panels, hold.ticks, title=self.title, y=y, width=5.0)

    def charts(self) -> tuple[Chart, Chart]:
        """The same, as the page draws it."""
        ticks = [RGB, *self.sites]
        hold = [self._curve(m, m, SPC, ticks) for m in self.methods]
        fresh = replace(self._curve(NONE, f"{NONE}, untrained", FRESH, ticks), low=(), high=())
        need = [_kept(self._curve(m, m, LOST, ticks)) for m in self.methods]
        spc = f"SPC, mean of {' and '.join(self.settings['look']['targets'])}"
        return (
            Chart("joint", HOLD, "", spc, [*hold, fresh], {}, [fresh.label], (), ticks),
            Chart("joint-need", NEED, "", "share of accuracy kept (%)", need, {}, (), (), ticks),
        )

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        return Report(
            title=f"Does recalibration make {self.settings['model']} hold more position, and need more?",
            lead=LEAD,
            figures={"joint": self.plot()},
            charts=self.charts(),
            tables=[Table("Position held and accuracy kept, by site", self.table())],
            notes=self.notes,
            conclusion=self.conclusion,
            conclusion_table=self.differences(),
            facts=self.facts,
        )

    def _curve(self, method: str, label: str, measure: str, ticks: Sequence[str]) -> Line:
        there = {name_of(method, site): i for i, site in enumerate(ticks)}
        rows = [r for r in self.rows if r.name in there and measure in r.measured]
        found = [r.measured[measure] for r in sorted(rows, key=lambda r: there[r.name])]
        sure = all(e.repeats > 1 for e in found)  # one seed has no interval
        return Line(
            label,
            tuple(sorted(float(there[r.name]) for r in rows)),
            tuple(e.mean for e in found),
            tuple(e.low for e in found) if sure else (),
            tuple(e.high for e in found) if sure else (),
        )

    def _joint_line(self, row: Row) -> dict[str, str]:
        site = row.name.removeprefix(name_of(row.label, ""))
        share = self.settings["depth_shares"].get(site)
        e = row.measured
        return {
            "method": row.label,
            "site": site,
            "share %": "" if share is None else f"{100 * share:.0f}",
            SPC: _sure(e.get(SPC), _spc),
            above(SPC): _sure(e.get(above(SPC)), _more),
            f"{ACCURACY} %": _sure(e.get(ACCURACY), _points),
            f"{LOST} %": _number(e.get(LOST), _points),
            f"{above(LOST)} %": _sure(e.get(above(LOST)), _more_points),
            FRESH: _number(e.get(FRESH), _spc),
            above(FRESH): _sure(e.get(above(FRESH)), _more),
            **{f"{SPC} {t}": _number(e.get(f"{SPC} {t}"), _spc) for t in self.settings["look"]["targets"]},
            "95 % covers": next(iter(e.values())).covers,
            "seeds": str(next(iter(e.values())).repeats),
        }

    def _sentences(self, method: str) -> tuple[str, str]:
        hold, need = (self.at(method, MEAN).measured[above(m)] for m in (SPC, LOST))
        lost = f"share of accuracy lost to shuffling {_sure(need, _more_points)} points"
        held = f"{method} {_answer(hold, 'holds', 'position')} (SPC {_sure(hold, _more)})."
        return held, f"It {_answer(need, 'needs', WHERE)} ({lost})."

    def _differences(self, method: str) -> dict[str, str]:
        mean = self.at(method, MEAN).measured
        return {
            "method": method,
            above(SPC): _sure(mean[above(SPC)], _more),
            f"{SPC}: {SINGLE}": self._alone(method, SPC),
            above(FRESH): _sure(mean[above(FRESH)], _more),
            f"{above(LOST)} %": _sure(mean[above(LOST)], _more_points),
            f"{LOST}: {SINGLE}": self._alone(method, LOST),
        }

    def _alone(self, method: str, measure: str) -> str:
        """At how many single sites there is more or less: a mean may hide that they differ."""
        found = [self.at(method, site).measured[above(measure)] for site in self.sites]
        if found[0].repeats < 2:
            return ""  # one seed shows no difference
        return f"{sum(e.low > 0 for e in found)}, {sum(e.high < 0 for e in found)}"


def _kept(lost: Line) -> Line:
    """The share that is kept, in per cent."""
    return replace(
        lost,
        y=tuple(100 * (1 - v) for v in lost.y),
        low=tuple(100 * (1 - v) for v in lost.high),
        high=tuple(100 * (1 - v) for v in lost.low),
    )


def _answer(e: Estimate, verb: str, what: str) -> str:
    if e.repeats < 2:
        return f"was trained with one seed, which cannot show a difference in the {what} it {verb}"
    if e.low > 0 or e.high < 0:
        return f"{verb} {'more' if e.low > 0 else 'less'} {what}"
    return f"shows no significant difference in the {what} it {verb}"


Format = Callable[[float], str]


def _spc(value: float) -> str:
    return f"{value:.3f}"


def _more(value: float) -> str:
    return f"{value:+.3f}"


def _points(value: float) -> str:
    return f"{100 * value:.2f}"


def _more_points(value: float) -> str:
    return f"{100 * value:+.2f}"


def _number(e: Estimate | None, text: Format) -> str:
    return text(e.mean) if e else ""


def _sure(e: Estimate | None, text: Format) -> str:
    """A mean, with its interval if there are several seeds."""
    if e is None or e.repeats < 2:
        return _number(e, text)
    return f"{text(e.mean)} [{text(e.low)}, {text(e.high)}]"
