"""Explain: example scenes with the prediction and its reasons, and the commonest failures with where they happen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from whatwhere.report.page import Report, Table, write_report
from whatwhere.report.panels import maps_figure
from whatwhere.say.checked import whole
from whatwhere.say.leakage import dropped
from whatwhere.say.studies.class_maps import SHARE, beside, coloured, upright, with_classes
from whatwhere.say.studies.compare import Compare
from whatwhere.say.studies.concluded import basis, failures_chart, of_failures
from whatwhere.say.studies.measure import Cells
from whatwhere.say.studies.speaker import Speaker, checked_rows
from whatwhere.say.studies.words import failure_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 0.02  # of a picture that a class must take for its reasons to be listed
TOP = 3  # concepts for each class
SHOWN = 5  # failures
MARGIN = 3  # cells around an example region
SEEN = ("picture", "truth", "predicted", "P(right)")
CROPPED = ("picture", "truth", "predicted", "first reason")
FAILED = "The largest region of each failure"
ROWS = "pictures (rows in Python)"
Box: TypeAlias = tuple[slice, slice]
Region: TypeAlias = tuple[Mapping[str, Any], tuple[int, Box] | None]  # a failure, and the picture and box to show


def explain(
    study: Compare,
    folder: str | os.PathLike[str],
    site: str | None = None,
    *,
    rows: Sequence[int] | None = None,
    n: int = 4,
    weights_folder: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a page with example scenes, their concept maps, the reasons of predictions, and the commonest failures.

    >>> study = ww.say.Compare(segmenter, scenes, sites=("fuse",))
    >>> study.run("say")
    >>> ww.say.explain(study, "say")                     # say/explain/index.html

    Args:
        study: a comparison that was run with the kind ssb.
        folder: that it was run into; the page goes to its folder `explain`.
        site: of the bottleneck; may be left out where there is one only.
        rows: test pictures; None: those with the commonest failures first, then evenly spaced ones.
        n: how many, if no rows are given.
        weights_folder: of features and weights, if not `folder`.

    Returns:
        The page.

    Raises:
        InputError: for a folder of another study, a bottleneck that is not trained, or an unknown row.
    """
    return explained(study, folder, site, rows=rows, n=n, weights_folder=weights_folder)[0]


def explained(
    study: Compare,
    folder: str | os.PathLike[str],
    site: str | None = None,
    *,
    rows: Sequence[int] | None = None,
    n: int = 4,
    weights_folder: str | os.PathLike[str] | None = None,
) -> tuple[Path, str]:
    """As `explain`: the page, and what it shows, on how many pictures."""
    whole("n", n, 1)
    speaker = Speaker(study, folder, site, weights_folder=weights_folder)
    failures = speaker.result["failures"]
    regions = [(f, largest_region(speaker.said, f["true"], f["said"])) for f in failures[:SHOWN]]
    total = len(speaker.test)
    chosen = checked_rows(rows, total, ROWS) if rows is not None else _examples(regions, total, n)
    report = _report(speaker, chosen, failures, regions)
    return write_report(Path(folder) / "explain", report), report.lead


def _report(speaker: Speaker, rows: Sequence[int], failures: Sequence[Any], regions: Sequence[Region]) -> Report:
    classes, names = speaker.scenes.classes, speaker.layer.names
    scenes, concepts = scenes_drawn(speaker, rows), concepts_drawn(speaker, rows)
    figures = {"scenes": _figure(speaker, scenes, SEEN, "Scenes"), "concepts": concepts_figure(speaker, concepts)}
    galleries = [
        beside("scenes", "Scenes", scenes, SEEN, speaker.scenes, "P(right): the confidence from concepts."),
        beside("concepts", "Concept maps", concepts, ["picture", *names], speaker.scenes),
    ]
    if regions:
        failed = failures_drawn(speaker, regions)
        figures["failures"] = _figure(speaker, failed, CROPPED, FAILED)
        galleries.insert(0, beside("failures", FAILED, failed, CROPPED, speaker.scenes))
    reasons = [line for row in rows for line in reasons_of(speaker, row)]
    return Report(
        title="What it says, and why",
        lead=_lead(speaker, len(rows), len(failures)),
        figures=figures,
        charts=[failures_chart(speaker)] if failures else [],
        galleries=galleries,
        conclusion=f"{basis(speaker)} {of_failures(speaker)}",
        tables=[
            Table(
                "Reasons: how much the class's mean log-probability falls when a concept is set to its mean",
                reasons,
            ),
            Table(
                "Failures: concepts (within a cell) of wrong pixels against right ones",
                failure_lines(failures, classes, names),
            ),
        ],
        notes=["Reasons are interventions: the concept map is overwritten and all that follows is computed again."],
        facts={"site": speaker.place, "pictures": list(rows)},
    )


def _lead(speaker: Speaker, shown: int, failures: int) -> str:
    """What is shown, and what it rests on."""
    total, groups = len(speaker.test), len(speaker.test.split.groups.unique())
    return (
        f"The supervised bottleneck at {speaker.place}: {len(speaker.layer.names)} concepts. Reasons are of {shown} of "
        f"{total} test pictures; {failures} failures are counted on all {total}, in {groups} groups."
    )


def reasons_of(speaker: Speaker, row: int) -> list[dict[str, Any]]:
    """For each class that is predicted in a picture, the concepts that it rests on most.

    Args:
        speaker: the network.
        row: of the test picture.
    """
    own = speaker.said.concepts[row : row + 1]
    before = speaker.rested(own)[0]
    predicted = before.argmax(0)
    regions = {c: region for c in predicted.unique().tolist() if (region := predicted == c).float().mean() >= LEAST}
    means = speaker.said.concepts.mean((0, 2, 3)).tolist()
    falls = torch.tensor(
        [_falls(before, speaker.rested(dropped(own, k, mean))[0], regions) for k, mean in enumerate(means)]
    )
    return [
        {
            "picture": row,
            "predicted": speaker.scenes.classes[c],
            "of the picture": f"{100 * region.float().mean():.0f} %",
            "because of": _because(speaker.layer.names, falls[:, i]),
        }
        for i, (c, region) in enumerate(regions.items())
    ]


def _falls(before: Tensor, after: Tensor, regions: Mapping[int, Tensor]) -> list[float]:
    """How much the mean log-probability of each class falls in its region."""
    return [float((before[c] - after[c])[region].mean()) for c, region in regions.items()]


def _because(names: Sequence[str], falls: Tensor) -> str:
    top = [k for k in falls.argsort(descending=True)[:TOP].tolist() if falls[k] > 0]
    return "; ".join(f"{names[k]} ({float(falls[k]):+.2f})" for k in top) or "no single concept"


def largest_region(said: Cells, true: int, wrong: int) -> tuple[int, Box] | None:
    """The picture and the box, in cells, of the largest connected region of one failure."""
    from scipy import ndimage

    best: tuple[int, int, Box] | None = None
    there = ((said.labels == true) & (said.said == wrong)).numpy()
    for row in np.flatnonzero(there.any((1, 2))):
        marked, count = ndimage.label(there[row])
        sizes = np.bincount(marked.ravel(), minlength=count + 1)[1:]
        if best is None or sizes.max() > best[0]:
            best = int(sizes.max()), int(row), ndimage.find_objects(marked)[int(sizes.argmax())]
    return (best[1], best[2]) if best else None


def _examples(regions: Sequence[Region], total: int, n: int) -> list[int]:
    """Pictures of failures first, half of those shown, then evenly spaced ones."""
    first = [r[0] for _, r in regions if r][: n // 2]
    spaced = np.linspace(0, total - 1, n + 2).round().astype(int).tolist()[1:-1]
    return list(dict.fromkeys([*first, *spaced]))[:n]


def _figure(speaker: Speaker, drawn: Mapping[str, Sequence[Any]], columns: Sequence[str], title: str) -> Figure:
    return with_classes(maps_figure(drawn, columns, title=title, limits=SHARE), speaker.scenes)


def scenes_drawn(speaker: Speaker, rows: Sequence[int]) -> dict[str, list[Any]]:
    """Picture, truth, prediction and confidence, by picture."""
    colours, drawn = speaker.scenes.colours, {}
    for row in rows:
        drawn[f"picture {row}"] = [
            upright(speaker.picture(row)),
            coloured(speaker.truth(row), colours),
            coloured(speaker.scores(row).argmax(0), colours),
            speaker.sure[row].numpy(),
        ]
    return drawn


def concepts_drawn(speaker: Speaker, rows: Sequence[int]) -> dict[str, list[Any]]:
    """The picture and every concept map, by picture."""
    return {f"picture {r}": [upright(speaker.picture(r)), *speaker.said.concepts[r].numpy()] for r in rows}


def concepts_figure(speaker: Speaker, drawn: Mapping[str, Sequence[Any]]) -> Figure:
    """Every concept map of the pictures, a row for each concept."""
    rows = dict(zip(["", *speaker.layer.names], map(list, zip(*drawn.values(), strict=True)), strict=True))
    return maps_figure(rows, list(drawn), title="Concept maps (dark 0, light 1)", limits=SHARE)


def failures_drawn(speaker: Speaker, regions: Sequence[Region]) -> dict[str, list[Any]]:
    """The largest region of each failure: picture, truth, prediction, and the first reason's map."""
    return dict(_failure_row(speaker, failure, *found) for failure, found in regions if found)


def _failure_row(speaker: Speaker, failure: Mapping[str, Any], row: int, box: Box) -> tuple[str, list[Any]]:
    classes, colours, size = speaker.scenes.classes, speaker.scenes.colours, speaker.said.said.shape[1:]
    picture, k = speaker.picture(row), failure["reasons"][0]["concept"]
    near = _around(box, size)
    pixels = _scaled(near, size, picture.shape[-2:])
    name = f"{classes[failure['true']]} predicted as {classes[failure['said']]}\n{speaker.layer.names[k]}"
    return name, [
        upright(picture)[pixels],
        coloured(speaker.truth(row), colours)[pixels],
        coloured(speaker.scores(row).argmax(0), colours)[pixels],
        speaker.said.concepts[row, k].numpy()[near],
    ]


def _around(box: Box, size: Sequence[int]) -> Box:
    a, b = (slice(max(0, s.start - MARGIN), min(n, s.stop + MARGIN)) for s, n in zip(box, size, strict=True))
    return a, b


def _scaled(box: Box, size: Sequence[int], full: Sequence[int]) -> Box:
    a, b = (slice(s.start * f // n, s.stop * f // n) for s, n, f in zip(box, size, full, strict=True))
    return a, b
