"""What an audit found: every part's own result, why the others are missing, and one answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whatwhere.audits.drawn import charts_of
from whatwhere.audits.failures import gallery
from whatwhere.audits.measured import Measured
from whatwhere.audits.next_commands import next_commands
from whatwhere.audits.sure import in_short, rests_on
from whatwhere.audits.verdict import CIRCULAR, verdict
from whatwhere.need.studies.result import GAP_FC
from whatwhere.report.gallery import Gallery
from whatwhere.report.page import Report, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GATES = {"none": "none: as it is", "se": "SE", "ms_sar": "MS-SAR"}
LAST = "What was left out is in the table of that name."
PAGES = {"need": "Need, in full", "patches": "Need, in the picture itself, in full", "hold": "Hold, in full"}
HELD = {
    "SPC of H": ("H", "network"),
    "H, untrained": ("H", "untrained"),
    "H, circular padding": ("H", CIRCULAR),
    "SPC of V": ("V", "network"),
    "SPC of G": ("G", "network"),
}  # columns of the table: target and network
TRAINED = {"use": "Use, trained, in full", "say": "Say, trained, in full"}


@dataclass(frozen=True)
class AuditResult(Measured):
    """How much *where* a network needs, holds, could use and say: the answer, and its page."""

    @property
    def sentences(self) -> list[str]:
        """The verdict."""
        return verdict(self)

    @property
    def conclusion(self) -> str:
        """The verdict, as one text."""
        return "\n".join(self.sentences)

    def records(self) -> Iterable[Mapping[str, Any]]:
        """A row for each place, with all that is known of it."""
        return self.table()

    def table(self) -> list[dict[str, Any]]:
        """One line for each place: what it costs to shuffle or collapse it, what is read out, how far it sees."""
        return [self._line(site) for site in self.sites]

    def _line(self, site: Mapping[str, Any]) -> dict[str, Any]:
        name = site["name"]
        return {
            "site": name,
            "share %": f"{100 * site['depth_share']:.0f}",
            **self._lost(name),
            **self._held(name),
            **self._seen(name),
        }

    def _lost(self, site: str) -> dict[str, str]:
        score = self.measured
        points = self.need.points if self.need else ()
        drops = {p.method: p.drop for p in points if p.site == site and p.drop}
        worse = "drop" if score.higher_is_better else "rise"
        found = {}
        for name, between, method in (("shuffled", "95 %", "per-channel"), ("GAP+FC", "GAP+FC 95 %", GAP_FC)):
            drop = drops.get(method)
            found[f"{worse}, {name}"] = score.shown(drop.mean) if drop else ""
            found[between] = f"[{score.shown(drop.low)}, {score.shown(drop.high)}]" if drop else ""
        return found

    def _held(self, site: str) -> dict[str, str]:
        found = {}
        for name, (target, network) in HELD.items():
            rows = self.hold.of(network, target=target, inputs="pictures", site=site) if self.hold else []
            found[name] = f"{rows[0].spc.mean:.2f}" if rows else ""
        return found

    def _seen(self, site: str) -> dict[str, str]:
        fields = {f["site"]: f for f in self.parts.get("fields", {}).get("fields", ())}
        return {"sees half within (px)": f"{fields[site]['r50']['mean']:.0f}" if site in fields else ""}

    def plot(self) -> Figure:
        """The curve, or whatever else was measured first."""
        for found in (self.need, self.hold, self.patches):
            if found is not None:
                return found.plot()
        from matplotlib.figure import Figure

        return Figure()

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        pages = {PAGES[name]: f"{name}/index.html" for name in PAGES if name in self.parts}
        pages |= {TRAINED[name]: f"{name}/index.html" for name in self.trained}
        where, took = self.data.get("name", "data"), self.provenance.get("seconds", 0) / 60
        return Report(
            title=f"How much where is in {self.network}?",
            lead=f"Asked on {where}: {_minutes(self.settings['minutes'])} given, {took:.1f} taken. "
            f"{in_short(self)} {self._checked()}{LAST}",
            charts=list(charts_of(self)),
            galleries=list(self._galleries()),
            tables=[Table("Place by place (empty: not asked)", self.table()), *self._tables()],
            notes=self.notes,
            conclusion=self.conclusion,
            verdict=self.sentences,
            facts={"data": self.data, "preprocessing": self.preprocessing, **self.settings, **self.provenance},
            pages=pages,
            commands=self.commands,
            commands_title="What to do next",
        )

    def _checked(self) -> str:
        """How many of the questions whose answers are known came out right."""
        right = sum(1 for k in self.known if k["right"])
        return (
            f"Self-check: {right} of {len(self.known)} questions whose answers are known came out right. "
            if self.known
            else ""
        )

    def _galleries(self) -> Iterator[Gallery]:
        """Position maps, and pictures that come out wrong."""
        wrong = gallery(self.parts.get("failures", {}))
        maps = self.hold.gallery_view() if self.hold else None
        yield from (found for found in (wrong, maps) if found)

    @property
    def commands(self) -> Mapping[str, str]:
        """What to type next, by what it is for."""
        return next_commands(self)

    def _tables(self) -> list[Table]:
        left = [{"part": part, "left out, because": why} for part, why in self.left_out.items()]
        gates = [_gate(row) for row in self.parts.get("use", {}).get("rows", ())]
        return [
            Table("What it would cost to add gates (untrained: what they bring is not measured)", gates),
            Table("How sure each part is", rests_on(self)),
            Table("Known answers, asked first", self.known),
            Table("Left out", left),
        ]


def _minutes(n: float) -> str:
    return f"{n:g} minute was" if n == 1 else f"{n:g} minutes were"


def _gate(row: Mapping[str, Any]) -> dict[str, str]:
    """A line of what gates cost."""
    return {
        "gate": GATES.get(row["method"], row["method"]),
        "places": str(row["places"]),
        "parameters": f"{row['parameters']:,}",
        "FLOPs per picture": f"{row['flops']:,}",
        "ms per picture": f"{row['latency_ms']:.2f}",
        "in batches of": str(row["batch"]),
    }
