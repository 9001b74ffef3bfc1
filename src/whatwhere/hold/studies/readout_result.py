"""The result: how well position can be read out of each site, always beside its controls."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from whatwhere.hold.features import RGB
from whatwhere.hold.studies.pictures import PICTURES
from whatwhere.hold.studies.variants import GIVEN, UNTRAINED
from whatwhere.intervals import Estimate
from whatwhere.lab.packed import unpack_maps
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.report.gallery import Gallery, Picture
from whatwhere.report.page import Report, Table
from whatwhere.report.panels import maps_figure, panels_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THUMBNAIL = 48  # pixels
SHUFFLED = "shuffled positions"
ALL = "all"
LEAD = (
    "Absolute position is read out of frozen features, site by site. SPC: Spearman's rank correlation of the predicted "
    "and the true map, 1 is perfect, 0 is none; MAE: mean absolute error; both at the size of the pictures. "
    "Every number stands beside its controls."
)

CHART = "Position read out of each site, target by target"
ABOUT = (
    "H: columns, V: rows, G: a bell at the centre, HS and VS: stripes. SPC is the rank correlation of the map that is "
    "read out with the true one: 1 is perfect, 0 is nothing. Only what stands above the controls is the trained "
    "network's."
)
ALIKE = 0.05  # of stripes, the highest and lowest cells depend on the grid
MAPS = "The maps of the untrained network look like the trained one's where the padding alone gives position away."


@dataclass(frozen=True)
class Row:
    """One read-out of one network, on one kind of pictures.

    Attributes:
        network: `network` (as given), `untrained`, `padding MODE`, `embedding at its mean`, `patches permuted`, or
            `shuffled positions`.
        readout: `ridge` or `official`.
        site: what was read: a site, `all` of them together, or `rgb`, the raw input.
        depth_share: share of the convolutions at or after the (first) site, in [0, 1].
        kernel: k of the k x k read-out.
        target: what was read out.
        inputs: `pictures`, or black, white, noise.
        spc: rank correlation, in [-1, 1]; the interval is over pictures, of untrained networks over seeds.
        mae: mean absolute error, in the target's units.
        constant: predictions that were constant, which count as SPC 0; of all untrained networks together.
        baseline: mean absolute error of the best constant.
        above_untrained: SPC minus the mean of the untrained networks on the same pictures, the interval over pictures
            and networks; None with fewer than two of them.
        penalty: what the ridge chose; None of the official read-out, or where there are several networks.
        size: height and width in pixels at which maps are compared; None in a result that does not say.
    """

    network: str
    readout: str
    site: str
    depth_share: float
    kernel: int
    target: str
    inputs: str
    spc: Estimate
    mae: Estimate
    constant: int
    baseline: float
    above_untrained: Estimate | None = None
    penalty: float | None = None
    size: int | None = None

    @property
    def place(self) -> tuple[str, str, int, str]:
        """What is compared between networks."""
        return (self.readout, self.site, self.kernel, self.target)


@dataclass(frozen=True)
class ReadoutResult(Result):
    """What was read out of a network and of its controls, and all that it rests on.

    Attributes:
        network: its name.
        data: names, sizes, fingerprints, and how the pictures were divided.
        preprocessing: what the network's input looked like.
        settings: sites, targets, kernels, read-outs, seeds, ...
        rows: every read-out.
        gallery: `pictures` as thumbnails, packed `targets` and `predicted` maps by network and site.
        conclusion: in words.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "position"

    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    rows: tuple[Row, ...]
    gallery: Mapping[str, Any] = field(default_factory=dict)
    conclusion: str = ""
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    def records(self) -> Iterable[Row]:
        """Every read-out."""
        return self.rows

    def of(self, network: str = GIVEN, **wanted: Any) -> list[Row]:
        """The rows of a network with some values, such as `of(target="H", kernel=3, inputs="pictures")`."""
        return [r for r in self.rows if r.network == network and all(getattr(r, k) == v for k, v in wanted.items())]

    @property
    def controls(self) -> list[str]:
        """The networks and settings that the given network is compared with."""
        return [n for n in dict.fromkeys(r.network for r in self.rows) if n != GIVEN]

    def table(self) -> list[dict[str, Any]]:
        """One row for each read-out of the given network on pictures, with its controls in the same row."""
        index = {(r.network, r.place): r for r in self.rows if r.inputs == PICTURES}
        return [self._table_row(r, index) for r in self.of(inputs=PICTURES)]

    def _table_row(self, r: Row, index: Mapping[Any, Row]) -> dict[str, Any]:
        raw = index.get((GIVEN, (r.readout, RGB, r.kernel, r.target)))
        return {
            "target": r.target,
            "site": r.site,
            "kernel": r.kernel,
            "read-out": r.readout,
            **_spc(r),
            "compared at": _pixels_of(r),
            **{f"SPC {name}": _bare(index.get((name, r.place))) for name in self.controls},
            "SPC rgb": _bare(raw),
            "above untrained": _interval(r.above_untrained),
            "MAE": f"{r.mae.mean:.3f}",
            "MAE best constant": f"{r.baseline:.3f}",
            "constant": r.constant,
            "pictures": r.spc.n,
        }

    def paper_table(self) -> list[dict[str, Any]]:
        """The paper's layout: a row for each network, read-out and kind of pictures, SPC and MAE of each target.

        Of all sites together, or of the deepest one that was read; the raw input is the paper's row "PosENet".
        """
        deepest = {(r.readout, r.kernel): r.site for r in self.rows if r.site not in (ALL, RGB)}
        deepest |= {(r.readout, r.kernel): ALL for r in self.rows if r.site == ALL}
        found: dict[Any, dict[str, Any]] = {}
        for r in self.rows:
            if r.site == deepest.get((r.readout, r.kernel)) or (r.site == RGB and r.network == GIVEN):
                label = "rgb (PosENet)" if r.site == RGB else r.network
                named = {
                    "network": label,
                    "site": r.site,
                    "read-out": r.readout,
                    "kernel": r.kernel,
                    "inputs": r.inputs,
                    "compared at": _pixels_of(r),
                }
                row = found.setdefault(tuple(named.values()), named)
                row.update({f"{r.target} SPC": f"{r.spc.mean:.3f}", f"{r.target} MAE": f"{r.mae.mean:.3f}"})
        return list(found.values())

    def blanks(self) -> list[dict[str, Any]]:
        """The same read-outs on pictures without content: one row each, SPC and MAE by kind of picture."""
        found: dict[Any, dict[str, Any]] = {}
        for r in self.rows:
            if r.inputs == PICTURES or r.network not in (GIVEN, UNTRAINED):
                continue
            row = found.setdefault(
                (r.network, r.place),
                {
                    "network": r.network,
                    "target": r.target,
                    "site": r.site,
                    "kernel": r.kernel,
                    "read-out": r.readout,
                    "compared at": _pixels_of(r),
                },
            )
            row.update({f"SPC {r.inputs}": f"{r.spc.mean:.3f}", f"MAE {r.inputs}": f"{r.mae.mean:.3f}"})
        return list(found.values())

    def plot(self) -> Figure:
        """SPC over depth, a panel for each target: the network and its controls, at the first kernel and read-out."""
        first = self.rows[0]
        chosen = [r for r in self.rows if (r.readout, r.kernel, r.inputs) == (first.readout, first.kernel, PICTURES)]
        sites = list(dict.fromkeys(r.site for r in chosen if r.site != RGB))
        ticks = [RGB, *sites]
        networks = list(dict.fromkeys(r.network for r in chosen))
        panels = {
            target: [_line([r for r in chosen if (r.target, r.network) == (target, n)], ticks, n) for n in networks]
            for target in dict.fromkeys(r.target for r in chosen)
        }
        title = f"{self.network}: {first.kernel}x{first.kernel} {first.readout} read-out"
        return panels_figure(panels, ticks, title=title, y=f"SPC at {first.size} px" if first.size else "SPC")

    def chart(self, name: str = "curve") -> Chart:
        """The same with all kernels and read-outs, as the page draws it: a panel for each target.

        Args:
            name: of the chart.
        """
        chosen = [r for r in self.rows if r.inputs == PICTURES]
        sites = list(dict.fromkeys(r.site for r in chosen if r.site != RGB))
        ticks = [RGB, *sites] if any(r.site == RGB for r in chosen) else sites
        ways = list(dict.fromkeys((r.readout, r.kernel) for r in chosen))
        lines, labels = [], {}
        for key in dict.fromkeys((r.target, r.network, r.readout, r.kernel) for r in chosen):
            target, network, *way = key
            label = network if len(ways) == 1 else f"{network}, {way[1]}x{way[1]} {way[0]}"
            labels[label] = (network, tuple(way))
            there = [r for r in chosen if (r.target, r.network, r.readout, r.kernel) == key]
            lines.append(replace(_line(there, ticks, label), panel=target))
        controls = [label for label, (network, _) in labels.items() if network != GIVEN]
        hidden = [label for label, (_, way) in labels.items() if way != ways[0]]
        return Chart(name, CHART, "", "SPC", lines, {}, controls, hidden, ticks, ABOUT)

    def gallery_view(self) -> Gallery | None:
        """Predicted maps beside their targets, as the page shows them; None where none were kept."""
        if not self.gallery:
            return None
        names, targets = list(self.gallery["names"]), unpack_maps(self.gallery["targets"])
        shown = [Picture(values, name, "What is to be read out") for name, values in zip(names, targets, strict=True)]
        for network, packed in self.gallery["predicted"].items():
            group = f"Read out of {network}"
            for i, (picture, maps) in enumerate(zip(self.gallery["pictures"], unpack_maps(packed), strict=False), 1):
                shown.append(Picture(_pixels(picture), f"picture {i}", group))
                shown += [Picture(m, f"{n} of picture {i}", group) for n, m in zip(names, maps, strict=True)]
        about = MAPS if UNTRAINED in self.gallery["predicted"] else ""
        return Gallery("gallery", f"Position, read out of {self.gallery['site']}", shown, about, _limits(targets))

    def plot_gallery(self) -> Figure | None:
        """Predicted maps beside their targets, for some pictures."""
        if not self.gallery:
            return None
        names = list(self.gallery["names"])
        rows: dict[str, list[Any]] = {"target": [None, *unpack_maps(self.gallery["targets"])]}
        for network, maps in self.gallery["predicted"].items():
            for i, (picture, predicted) in enumerate(zip(self.gallery["pictures"], unpack_maps(maps), strict=False), 1):
                rows[f"{network}, picture {i}"] = [_pixels(picture), *predicted]
        return maps_figure(rows, ["", *names], title=f"{self.network}, read out of {self.gallery['site']!r}")

    def report(self, folder: Path | None = None) -> Report:
        """The page's content."""
        gallery, view = self.plot_gallery(), self.gallery_view()
        blanks = self.blanks()
        return Report(
            title=f"How much where does {self.network} hold?",
            lead=LEAD,
            figures={"curve": self.plot(), **({"gallery": gallery} if gallery else {})},
            charts=[self.chart()],
            galleries=[view] if view else [],
            tables=[
                Table("Position, site by site, beside its controls", self.table()),
                Table("In the paper's layout", self.paper_table()),
                *([Table("On pictures without content", blanks)] if blanks else []),
            ],
            notes=self.notes,
            conclusion=self.conclusion,
            facts={
                "data": self.data,
                "preprocessing": self.preprocessing,
                "settings": self.settings,
                **self.provenance,
            },
        )


def _limits(targets: Iterable[Any]) -> tuple[float, float] | None:
    """What all targets lie between, if they are alike but for their grid: on a scale of its own nothing looks faint."""
    ends = np.array([(np.min(t), np.max(t)) for t in targets], np.float64)
    return (float(ends[0, 0]), float(ends[0, 1])) if (np.ptp(ends, 0) < ALIKE).all() else None


def _pixels(thumbnail: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(thumbnail), np.uint8).reshape(THUMBNAIL, THUMBNAIL, 3)


def _line(rows: Sequence[Row], ticks: Sequence[str], label: str) -> Line:
    ordered = sorted(rows, key=lambda r: ticks.index(r.site))
    return Line(
        label,
        tuple(float(ticks.index(r.site)) for r in ordered),
        tuple(r.spc.mean for r in ordered),
        tuple(r.spc.low for r in ordered),
        tuple(r.spc.high for r in ordered),
    )


def _pixels_of(r: Row) -> str:
    return f"{r.size} px" if r.size else ""


def _spc(r: Row) -> dict[str, str]:
    return {"SPC": f"{r.spc.mean:.3f}", "SPC 95 %": f"[{r.spc.low:.3f}, {r.spc.high:.3f}]"}


def _bare(r: Row | None) -> str:
    return f"{r.spc.mean:.3f}" if r else ""


def _interval(e: Estimate | None) -> str:
    return f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}]" if e else ""
