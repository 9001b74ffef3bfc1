"""What fine-tuning brought back: the collapsed networks before and after it, beside the intact one tuned alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from whatwhere.intervals import Estimate
from whatwhere.lab.rows import Row, RowsResult, rows_figure
from whatwhere.report.page import Report, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AGREEMENT = "agreement"  # with the network as it was given
ACCURACY, BELOW, GAINED, RECOVERED = "accuracy", "below intact fine-tuned", "gained", "share recovered"
GIVEN = "below intact as given"
INTACT, TUNED = "intact", "fine-tuned"
LEAD = (
    "A trained network is collapsed (GAP+FC) and fine-tuned. The control is the intact network, fine-tuned alike: "
    "{} lost is what a network has less than the control, on the same test pictures."
)
NAMES = {ACCURACY: "accuracy", "top5": "top-5 accuracy", AGREEMENT: "agreement with the network as it was given"}


def name_of(site: str | None, tuned: bool, before: str | None = None) -> str:
    """The name of a row."""
    if not tuned:
        return site or INTACT
    return f"{site or INTACT}, {TUNED}{_behind(before)}"


def label_of(site: str | None, tuned: bool, shares: Mapping[str, float], before: str | None = None) -> str:
    """How tables call it."""
    network = f"GAP+FC from {site} on (last {100 * shares[site]:.0f} %)" if site else INTACT
    return f"{network}, {TUNED}{_behind(before)}" if tuned else network


def _behind(before: str | None) -> str:
    """Of an intact network whose prefix was frozen, where that ends."""
    return f" from {before} on" if before else ""


@dataclass(frozen=True)
class RecoverResult(RowsResult):
    """Accuracy of the intact and the collapsed networks, before and after fine-tuning, and what came back.

    Attributes:
        each: the fine-tuned networks one by one, with intervals over test pictures.
        cost: parameters and FLOPs per picture, by site; "" is the intact network.
        weights: by row, the folders of its fine-tuned networks (of a module of the user's, files of their weights) in
            the study's folder (or the `weights_folder`), seed by seed.
    """

    kind: ClassVar[str] = "recover"

    each: tuple[Row, ...] = ()
    cost: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    weights: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def score(self) -> str:
        """What was measured: accuracy, top5 or agreement."""
        return str(self.settings.get("score", ACCURACY))

    @property
    def chance(self) -> float | None:
        """The score of a guess; none is known of agreement."""
        return {ACCURACY: 1, "top5": 5}[self.score] / int(self.data["classes"]) if self.score != AGREEMENT else None

    def plot(self) -> Figure:
        """The rows one below the other, with their intervals."""
        axis = f"{NAMES[self.score]} (%)"
        return rows_figure(self.rows, (self.score,), chance=self.chance, title=self.title, x=axis)

    @property
    def title(self) -> str:
        """Above the figure."""
        return f"{self.settings['network']} on {self.data.get('name', 'data')}"

    @property
    def conclusion(self) -> str:
        """How much of the lost accuracy came back, at each site."""
        shares = {site: e for site in self.sites if (e := self._measured(name_of(site, True), RECOVERED))}
        others = {site: e for site in self.sites if site not in shares and (e := self._measured(site, BELOW))}
        kept = [_lossless(site, e, NAMES[self.score]) for site, e in others.items() if e.low <= 0]
        back = " and ".join(_back(site, e, NAMES[self.score]) for site, e in shares.items())
        said = [f"Fine-tuning recovers {back}{self._basis(next(iter(shares)))}."] if back else []
        return " ".join([*said, *kept, *self._within()])

    def _within(self) -> Iterator[str]:
        """Whether each network is shown to be within what was allowed, where it and its control are finished."""
        allowed = self.settings.get("allowed")
        if allowed is None:  # a result of an earlier version
            return
        for site in self.sites:
            given, control = (self._measured(name_of(site, True), measure) for measure in (GIVEN, BELOW))
            if given and control:
                yield (
                    f"Is {site}, {TUNED}, within {allowed:g} points of the intact network? As it was given: "
                    f"{_verdict(given, allowed)}. Fine-tuned alike: {_verdict(control, allowed)}."
                )

    @property
    def sites(self) -> list[str]:
        """Where the network was collapsed."""
        return list(self.settings["sites"])

    def _measured(self, row: str, measure: str) -> Estimate | None:
        return next((r.measured.get(measure) for r in self.rows if r.name == row), None)

    def _basis(self, site: str) -> str:
        e = self[name_of(site, True)].measured[BELOW]
        seeds = "one seed" if e.repeats == 1 else f"{e.repeats} seeds"
        return f", compared with the intact network fine-tuned alike ({e.n:,} test pictures, {seeds})"

    def table(self) -> list[dict[str, Any]]:
        """One line for each network, before and after fine-tuning, in per cent, with its cost."""
        return in_order([{**line, **self._cost(line["row"])} for line in super().table()])

    def each_table(self) -> list[dict[str, Any]]:
        """One line for each fine-tuned network: intervals over test pictures, and where it is kept."""
        files = [file for there in self.weights.values() for file in there]
        lines = [self._line(r) for r in self.each]
        return in_order([{**line, "weights": file} for line, file in zip(lines, files, strict=True)])

    def _cost(self, row: str) -> dict[str, str]:
        site = row.partition(f", {TUNED}")[0]
        cost = self.cost["" if site == INTACT else site]
        return {"parameters": f"{cost['parameters']:,}", "FLOPs per picture": f"{cost['flops']:,}"}

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        return Report(
            title=f"How much does {self.settings['network']} recover from a collapse?",
            lead=LEAD.format(NAMES[self.score]),
            figures={"recover": self.plot()},
            charts=[self.chart("recover", f"{NAMES[self.score]} (%)", (self.score,))],
            tables=[
                Table("Before and after fine-tuning", self.table()),
                Table("Each fine-tuned network: intervals over test pictures, and where it is kept", self.each_table()),
            ],
            notes=self.notes,
            conclusion=self.conclusion,
            facts=self.facts,
        )


def in_order(lines: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Lines that all have all columns: what was measured, then how often, then the rest."""
    columns = dict.fromkeys(name for line in lines for name in line)
    last = ("seeds", "pictures", "parameters", "FLOPs per picture", "weights")
    ordered = [*(c for c in columns if c not in last), *(c for c in last if c in columns)]
    return [{name: line.get(name, "") for name in ordered} for line in lines]


def _back(site: str, share: Estimate, score: str) -> str:
    return (
        f"{round(100 * share.mean)} % [{round(100 * share.low)}, {round(100 * share.high)}] of the {score} that GAP+FC "
        f"from {site} on had lost"
    )


def _verdict(below: Estimate, allowed: float) -> str:
    """By the end of the interval: what is likely within may not be shown to be."""
    most = allowed / 100
    word = "yes" if below.high <= most else "no" if below.low > most else "not shown"
    return f"{word}, {100 * below.mean:.2f} points below [{100 * below.low:.2f}, {100 * below.high:.2f}]"


def _lossless(site: str, lost: Estimate, score: str) -> str:
    return (
        f"GAP+FC from {site} on loses no significant {score} even before fine-tuning: {100 * lost.mean:.2f} points "
        f"[{100 * lost.low:.2f}, {100 * lost.high:.2f}]."
    )
