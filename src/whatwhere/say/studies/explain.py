"""Explain: example scenes with what was said and why, and the commonest failures with the places where they happen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whatwhere.bottleneck.layer import Bottleneck, layer_of
from whatwhere.bottleneck.leakage import dropped
from whatwhere.bottleneck.tail import Tail
from whatwhere.data.concepts import CLASS, IGNORE
from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.report.page import Report, Table, write_report
from whatwhere.report.panels import maps_figure
from whatwhere.runs.cells import Cell
from whatwhere.sites import evaluating
from whatwhere.studies.bottleneck.features import SiteFeatures
from whatwhere.studies.bottleneck.measure import Cells, cells
from whatwhere.studies.bottleneck.study import Setting
from whatwhere.studies.bottleneck.sure import confidences
from whatwhere.studies.bottleneck.words import failure_lines
from whatwhere.training.objectives import at_size, score_maps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 0.02  # of a picture that a class must take for its reasons to be told
TOLD = 3  # concepts for each class
SHOWN = 5  # failures
SHARE = (0.0, 1.0)  # what maps of concepts and of P(right) are drawn between
MARGIN = 3  # cells around an example region
PALETTE = (
    (128, 64, 128), (70, 130, 180), (220, 20, 60), (107, 142, 35), (70, 70, 70), (244, 35, 232), (0, 0, 142),
    (250, 170, 30), (0, 60, 100), (190, 153, 153), (220, 220, 0), (119, 11, 32), (152, 251, 152), (255, 120, 80),
    (0, 128, 128), (153, 153, 153), (102, 102, 156), (0, 0, 230), (230, 150, 140), (180, 165, 180),
)  # fmt: skip


@dataclass(frozen=True)
class Speaker:
    """A finished network with a supervised bottleneck, and what it says of the test pictures.

    Args:
        setting: the study.
        site: of the bottleneck.
        seed: of the cell.
    """

    setting: Setting
    site: str
    seed: int = 0

    @cached_property
    def cell(self) -> Cell:
        """The finished cell.

        Raises:
            InputError: if it is not finished.
        """
        cell = self.setting.cell(self.site, "ssb", self.seed)
        if not self.setting.store.has(cell):
            others = self.setting.trained("ssb")
            known = f" (trained are those at {', '.join(others)})" if others else ""
            raise InputError(
                f"site={self.site!r}: its supervised bottleneck is not trained{known}; run `whatwhere bottleneck "
                "evaluate` with this site and the kind ssb first."
            )
        return cell

    @cached_property
    def module(self) -> nn.Module:
        """The network."""
        return self.setting.bench.rebuilt(self.cell)

    @cached_property
    def layer(self) -> Bottleneck:
        """Its bottleneck."""
        return layer_of(self.module)

    @cached_property
    def tail(self) -> Tail:
        """What rests on the concepts."""
        picture = self.test.split[0][0]
        return Tail(self.module, f"{self.site}.site", torch.zeros(1, *picture.shape))

    @cached_property
    def test(self) -> SiteFeatures:
        """Features of the test pictures."""
        return self.setting.bench.features(self.cell.config, "test")

    @cached_property
    def said(self) -> Cells:
        """What it says of them."""
        return cells(self.tail, self.test, self.layer)[0]

    @cached_property
    def sure(self) -> Tensor:
        """(N, h, w) P(right), by the concepts' model (by max softmax where that could not be fitted)."""
        held = self.setting.bench.features(self.cell.config, "validation")
        given, _ = confidences(cells(self.tail, held, self.layer)[0], self.layer.names)
        found: Tensor = given.get("concepts", given["max softmax"])(self.said)
        return found

    def scores(self, row: int) -> Tensor:
        """(classes, H, W) of one picture."""
        with evaluating(self.tail):
            scores, _ = score_maps(self.tail(self.test.at(torch.tensor([row]))))
        return at_size(scores, self.test.split[row][1][CLASS])[0]


def explain(
    setting: Setting, site: str, out: str | os.PathLike[str], *, rows: Sequence[int] | None = None, n: int = 4
) -> Path:
    """Write a page with example scenes, their concept maps, the reasons of what was said, and the worst failures.

    Args:
        setting: a finished study.
        site: whose supervised bottleneck speaks.
        out: folder of the page.
        rows: test pictures; None: those with the commonest failures first, then evenly spaced ones.
        n: how many, if no rows are given.

    Returns:
        The page.

    Raises:
        InputError: for a bottleneck that is not trained, or a row that is not there.
    """
    speaker = Speaker(setting, site)
    failures = setting.store.load(speaker.cell)["failures"]
    regions = [(f, largest_region(speaker.said, f["true"], f["said"])) for f in failures[:SHOWN]]
    chosen = checked_rows(rows, len(speaker.test)) if rows is not None else _examples(regions, len(speaker.test), n)
    return write_report(Path(out), _report(speaker, chosen, failures, regions))


def _report(speaker: Speaker, rows: Sequence[int], failures: Sequence[Any], regions: Sequence[Any]) -> Report:
    classes, names = speaker.setting.bench.scenes.classes, speaker.layer.names
    figures = {"scenes": scenes_figure(speaker, rows), "concepts": concepts_figure(speaker, rows)}
    if regions:
        figures["failures"] = failures_figure(speaker, regions)
    reasons = [line for row in rows for line in reasons_of(speaker, row)]
    return Report(
        title="What it says, and why",
        lead=f"The supervised bottleneck at {speaker.site}: {len(names)} concepts, on test pictures.",
        figures=figures,
        tables=[
            Table("Why it says so: how much the class's mean log-probability falls when a concept is set to its mean",
                  reasons),
            Table("Failures: concepts (within a cell) of wrong pixels against right ones",
                  failure_lines(failures, classes, names)),
        ],
        notes=["Reasons are interventions: the concept map is overwritten and all that follows is computed again."],
        facts={"site": speaker.site, "pictures": list(rows)},
    )  # fmt: skip


def reasons_of(speaker: Speaker, row: int) -> list[dict[str, Any]]:
    """For each class that a picture is said to hold, the concepts that it rests on most.

    Args:
        speaker: the network.
        row: of the test picture.
    """
    maps = speaker.said.maps
    assert maps is not None
    means, own = maps.mean((0, 2, 3)), maps[row : row + 1]
    variants = torch.cat([own, *(dropped(own, k, float(means[k])) for k in range(own.shape[1]))])
    before, *after = rested(speaker, variants)
    said, found = before.argmax(0), []
    names, classes = speaker.layer.names, speaker.setting.bench.scenes.classes
    for c in said.unique().tolist():
        region = said == c
        if region.float().mean() < LEAST:
            continue
        falls = torch.stack([(before[c] - a[c])[region].mean() for a in after])
        top = [k for k in falls.argsort(descending=True)[:TOLD].tolist() if falls[k] > 0]
        why = "; ".join(f"{names[k]} ({float(falls[k]):+.2f})" for k in top) or "no single concept"
        found.append({"picture": row, "said": classes[c], "of the picture": f"{100 * region.float().mean():.0f} %",
                      "because of": why})  # fmt: skip
    return found


def rested(speaker: Speaker, maps: Tensor) -> Tensor:
    """Log-probabilities (N, classes, h, w) that rest on given concept maps (N, K, h, w)."""
    picture = speaker.test.split[0][0]
    tail = Tail(speaker.module, f"{speaker.site}.bottleneck.decode", torch.zeros(1, *picture.shape))
    found = []
    with evaluating(tail):
        for part in maps.split(4):
            scores, _ = score_maps(tail(speaker.layer.decode(part)))
            at = nn.functional.interpolate(at_size(scores, picture), size=maps.shape[-2:], mode="nearest-exact")
            found.append(at.log_softmax(1))
    return torch.cat(found)


def largest_region(said: Cells, true: int, wrong: int) -> tuple[int, tuple[slice, slice]] | None:
    """The picture and the box, in cells, of the largest connected region of one failure."""
    from scipy import ndimage

    best: tuple[int, int, tuple[slice, slice]] | None = None
    there = ((said.labels == true) & (said.said == wrong)).numpy()
    for row in np.flatnonzero(there.any((1, 2))):
        marked, count = ndimage.label(there[row])
        sizes = np.bincount(marked.ravel(), minlength=count + 1)[1:]
        if best is None or sizes.max() > best[0]:
            best = int(sizes.max()), int(row), ndimage.find_objects(marked)[int(sizes.argmax())]
    return (best[1], best[2]) if best else None


def _examples(regions: Sequence[Any], total: int, n: int) -> list[int]:
    """Pictures of failures first, half of those shown, then evenly spaced ones."""
    first = [r[0] for _, r in regions if r][: n // 2]
    spaced = np.linspace(0, total - 1, n + 2).round().astype(int).tolist()[1:-1]
    return list(dict.fromkeys([*first, *spaced]))[:n]


def checked_rows(rows: Sequence[int], total: int) -> list[int]:
    """Row numbers, each once, refused where there is no such picture."""
    if not rows:
        raise InputError(f"rows is empty; give numbers of test pictures, from 0 to {total - 1}.")
    wrong = [r for r in rows if not 0 <= r < total]
    if wrong:
        raise InputError(f"rows={list(rows)}: there is no test picture {wrong[0]}; give numbers from 0 to {total - 1}.")
    return list(dict.fromkeys(rows))


def coloured(values: Tensor, colours: Sequence[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """A class map as a picture, (H, W, 3); unlabelled is white."""
    palette = np.array([*(colours or PALETTE), *PALETTE], np.uint8)
    found: NDArray[np.uint8] = palette[values.long().clamp(max=len(palette) - 1).numpy()]
    found[(values == IGNORE).numpy()] = 255
    return found


def scenes_figure(speaker: Speaker, rows: Sequence[int]) -> Figure:
    """Picture, truth, what was said, and how sure, a row each."""
    colours, drawn = speaker.setting.bench.scenes.colours, {}
    for row in rows:
        picture, maps = speaker.test.split[row]
        said = speaker.scores(row).argmax(0)
        drawn[f"picture {row}"] = [
            picture.permute(1, 2, 0).numpy(), coloured(maps[CLASS], colours), coloured(said, colours),
            speaker.sure[row].numpy(),
        ]  # fmt: skip
    figure = maps_figure(drawn, ["picture", "truth", "said", "P(right)"], title="Scenes", limits=SHARE)
    return with_classes(figure, speaker.setting.bench.scenes)


def with_classes(figure: Figure, scenes: Scenes) -> Figure:
    """A figure with what the colours of its class maps mean, below."""
    from matplotlib.patches import Patch

    colours = coloured(torch.arange(len(scenes.classes))[None], scenes.colours)[0] / 255
    patches = [Patch(color=tuple(c)) for c in colours]
    figure.legend(patches, list(scenes.classes), loc="outside lower center", ncols=6, fontsize=8)
    return figure


def concepts_figure(speaker: Speaker, rows: Sequence[int]) -> Figure:
    """Every concept map of the pictures, a row for each concept."""
    assert speaker.said.maps is not None
    drawn: dict[str, list[Any]] = {"": [speaker.test.split[r][0].permute(1, 2, 0).numpy() for r in rows]}
    for k, name in enumerate(speaker.layer.names):
        drawn[name] = [speaker.said.maps[r, k].numpy() for r in rows]
    return maps_figure(drawn, [f"picture {r}" for r in rows], title="Concept maps (dark 0, light 1)", limits=SHARE)


def failures_figure(speaker: Speaker, regions: Sequence[Any]) -> Figure:
    """The largest region of each failure: picture, truth, what was said, and the first reason's map."""
    scenes, names = speaker.setting.bench.scenes, speaker.layer.names
    assert speaker.said.maps is not None
    drawn: dict[str, list[Any]] = {}
    for failure, found in regions:
        if found is None:
            continue
        row, box = found
        picture, maps = speaker.test.split[row]
        k = failure["reasons"][0]["concept"]
        size = speaker.said.said.shape[1:]
        near = _around(box, size)
        pixels = _scaled(near, size, picture.shape[-2:])
        said = speaker.scores(row).argmax(0)
        name = f"{scenes.classes[failure['true']]} said {scenes.classes[failure['said']]}\n{names[k]}"
        drawn[name] = [
            picture.permute(1, 2, 0).numpy()[pixels], coloured(maps[CLASS], scenes.colours)[pixels],
            coloured(said, scenes.colours)[pixels], speaker.said.maps[row, k].numpy()[near],
        ]  # fmt: skip
    columns = ["picture", "truth", "said", "first reason"]
    return with_classes(maps_figure(drawn, columns, title="The largest region of each failure", limits=SHARE), scenes)


def _around(box: tuple[slice, slice], size: Sequence[int]) -> tuple[slice, slice]:
    a, b = (slice(max(0, s.start - MARGIN), min(n, s.stop + MARGIN)) for s, n in zip(box, size, strict=True))
    return a, b


def _scaled(box: tuple[slice, slice], size: Sequence[int], full: Sequence[int]) -> tuple[slice, slice]:
    a, b = (slice(s.start * f // n, s.stop * f // n) for s, n, f in zip(box, size, full, strict=True))
    return a, b
