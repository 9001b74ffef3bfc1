"""Intervene: overwrite concept maps of a picture, compute all that follows again, and report what changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.report.page import Report, Table, write_report
from whatwhere.report.panels import maps_figure
from whatwhere.say.concept_counts import matching
from whatwhere.say.studies.class_maps import SHARE, beside, coloured, upright, with_classes
from whatwhere.say.studies.compare import Compare
from whatwhere.say.studies.concluded import basis, of_intervention
from whatwhere.say.studies.speaker import Speaker, checked_rows

TRUTH = "truth"
SHOWN = 8  # overwritten concepts
COLUMNS = ("picture", "before", "after", "truth")
CLASSES = "Share of the picture predicted as each class"
OTHERS = (
    "Other concepts are overwritten with the same values, in the same box; how much that alters their maps may differ. "
    "Intervals are over groups of the pictures that were asked."
)
BOX = "give top, bottom, left, right as shares of the picture from 0 to 1, such as 0.5,1,0,1."
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True)
class Change:
    """What an intervention did to one picture.

    Attributes:
        before: (h, w) predicted class, at the cells' centres.
        after: likewise, with the maps overwritten.
        maps: (K, h, w) as they were.
        edited: (K, h, w) as they were overwritten.
        picture: number of the test picture.
        pictures: test pictures in all; None: not known.
        conclusion: what the same does to other test pictures, beside other concepts; empty: not asked.
    """

    before: Tensor
    after: Tensor
    maps: Tensor
    edited: Tensor
    picture: int = 0
    pictures: int | None = None
    conclusion: str = ""

    @property
    def changed(self) -> float:
        """Share of the picture where the predicted class changes."""
        return float((self.before != self.after).float().mean())

    @property
    def sentence(self) -> str:
        """The change of this picture, in words."""
        return f"The predicted class changes for {100 * self.changed:.1f} % of the picture."

    def __str__(self) -> str:
        """In words."""
        text = self.sentence
        if self.conclusion:
            return f"{text} {self.conclusion}"
        if self.pictures is None:
            return text
        return f"{text} It is one of {self.pictures} test pictures (number {self.picture}); others were not changed."


def intervened(speaker: Speaker, row: int, values: Mapping[str, float | str], box: Box | None = None) -> Change:
    """Overwrite concepts of one test picture.

    Args:
        speaker: the network.
        row: of the test picture.
        values: by concept (a pattern such as `"part: *"` is several): a number from 0 to 1, or `"truth"`, the labels.
        box: only there: top, bottom, left, right as shares of the picture; None: everywhere.

    Raises:
        InputError: for an unknown concept, a value outside [0, 1], labels that the scenes lack, or an empty box.
    """
    checked_rows([row], len(speaker.test), "picture (row in Python)")
    own, edited = speaker.said.concepts[row], edited_maps(speaker, row, numbered(speaker, values), box)
    before, after = speaker.rested(torch.stack([own, edited])).argmax(1)
    return Change(before, after, own, edited, row, len(speaker.test))


def numbered(speaker: Speaker, values: Mapping[str, float | str]) -> dict[int, float | str]:
    """What is overwritten, by concept's number; of patterns that overlap, the later one counts."""
    names = speaker.layer.names
    patterns = ((matching(names, [p], "set (values in Python)"), value) for p, value in values.items())
    return {names.index(name): value for found, value in patterns for name in found}


def edited_maps(speaker: Speaker, row: int, values: Mapping[int, float | str], box: Box | None) -> Tensor:
    """Concept maps (K, h, w) of a test picture, some of them overwritten."""
    own, names = speaker.said.concepts[row], speaker.layer.names
    edited, inside = own.clone(), _inside(box, own.shape[-2:])
    for k, value in values.items():
        wanted = _labels(speaker, row, k, own[k]) if value == TRUTH else _number(names[k], value)
        edited[k] = torch.where(inside, wanted, own[k])
    return edited


def changes(speaker: Speaker, row: int, ways: Sequence[Mapping[int, float | str]], box: Box | None) -> list[float]:
    """Shares of a test picture where the predicted class changes, for each way to overwrite its maps."""
    maps = [speaker.said.concepts[row], *(edited_maps(speaker, row, values, box) for values in ways)]
    before, *after = speaker.rested(torch.stack(maps)).argmax(1)
    return [float((before != a).float().mean()) for a in after]


def _labels(speaker: Speaker, row: int, k: int, own: Tensor) -> Tensor:
    """The labels' map of a concept, (h, w); its own where nothing is labelled."""
    if not speaker.test.labelled:
        raise InputError(
            f"{speaker.layer.names[k]}={TRUTH}: the scenes have no labels of it; give a number from 0 to 1."
        )
    given = speaker.test.shares_at(torch.tensor([row]))[0, k]
    return torch.where(given >= 0, given, own)


def _number(name: str, value: float | str) -> Tensor:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise InputError(f"set: {name}={value}: give a number from 0 (absent) to 1 (present), or {TRUTH!r}.")
    return torch.tensor(number)


def _inside(box: Box | None, size: Sequence[int]) -> Tensor:
    h, w = size
    if box is None:
        return torch.ones(h, w, dtype=torch.bool)
    if len(box) != 4 or not all(0 <= v <= 1 for v in box) or box[0] >= box[1] or box[2] >= box[3]:
        raise InputError(f"box={box}: {BOX}")
    top, bottom, left, right = box
    y, x = (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w
    found = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
    if not bool(found.any()):
        raise InputError(f"box={box} holds no cell's centre of {h} x {w}; {BOX}")
    return found


def intervene(
    study: Compare,
    folder: str | os.PathLike[str],
    row: int,
    values: Mapping[str, float | str],
    site: str | None = None,
    *,
    box: Box | None = None,
    weights_folder: str | os.PathLike[str] | None = None,
) -> Change:
    """Overwrite concepts of one test picture, and write a page with the prediction before and after.

    >>> ww.say.intervene(study, "say", 3, {"vehicle": 0})           # say/intervene/index.html

    Args:
        study: a comparison that was run with the kind ssb.
        folder: that it was run into; the page goes to its folder `intervene`.
        row: of the test picture.
        values: by concept (a pattern such as `"part: *"` is several): a number from 0 to 1, or `"truth"`, the labels.
        site: of the bottleneck; may be left out where there is one only.
        box: only there: top, bottom, left, right as shares of the picture; None: everywhere.
        weights_folder: of features and weights, if not `folder`.

    Returns:
        What changed.

    Raises:
        InputError: for a folder of another study, a bottleneck that is not trained, or values that cannot be.
    """
    if not values:
        raise InputError("values is empty; give at least one concept with what it is set to, such as {'vehicle': 0}.")
    speaker = Speaker(study, folder, site, weights_folder=weights_folder)
    change, overwritten = intervened(speaker, row, values, box), numbered(speaker, values)
    found = of_intervention(speaker, overwritten, lambda at, ways: changes(speaker, at, ways, box))
    change = replace(change, conclusion=found)
    write_report(Path(folder) / "intervene", _report(speaker, row, values, box, change))
    return change


def _report(speaker: Speaker, row: int, values: Mapping[str, float | str], box: Box | None, change: Change) -> Report:
    drawn, scenes = _drawn(speaker, row, change), speaker.scenes
    figure = maps_figure(drawn, COLUMNS, limits=SHARE)
    return Report(
        title="What if a concept were otherwise?",
        lead=f"Test picture {row} at {speaker.place}: {', '.join(f'{k} = {v}' for k, v in values.items())}.",
        conclusion=f"{change} {basis(speaker)}",
        figures={"intervention": with_classes(figure, scenes)},
        charts=[classes_chart(change, scenes.classes)],
        galleries=[beside("intervention", "Before and after", drawn, COLUMNS, scenes)],
        tables=[Table(CLASSES, class_lines(change, scenes.classes))],
        notes=["Everything behind the concept maps is computed again; nothing is trained.", OTHERS],
        facts={
            "site": speaker.place,
            "picture": row,
            "overwritten": {k: str(v) for k, v in values.items()},
            "box": str(box),
        },
    )


def _drawn(speaker: Speaker, row: int, change: Change) -> dict[str, list[Any]]:
    """The prediction before and after, and the concept maps that were overwritten."""
    colours = speaker.scenes.colours
    before, after, truth = (coloured(m, colours) for m in (change.before, change.after, speaker.truth(row)))
    drawn: dict[str, list[Any]] = {"prediction": [upright(speaker.picture(row)), before, after, truth]}
    touched = [k for k in range(len(change.maps)) if not torch.equal(change.maps[k], change.edited[k])]
    for k in touched[:SHOWN]:
        drawn[speaker.layer.names[k]] = [None, change.maps[k].numpy(), change.edited[k].numpy(), None]
    return drawn


def classes_chart(change: Change, classes: Sequence[str]) -> Chart:
    """Each class's share before and after, of those that are predicted."""
    there = torch.cat([change.before.flatten(), change.after.flatten()]).unique().tolist()
    x, shares = tuple(map(float, range(len(there)))), (change.before, change.after)
    lines = [
        Line(label, x, tuple(100 * float((m == c).float().mean()) for c in there))
        for label, m in zip(("before", "after"), shares, strict=True)
    ]
    return Chart("classes", CLASSES, "%", "%", lines, {}, ["before"], (), [classes[c] for c in there], joined=False)


def class_lines(change: Change, classes: Sequence[str]) -> list[dict[str, str]]:
    """Each class's share before and after."""
    lines = []
    for c, name in enumerate(classes):
        before, after = (100 * float((m == c).float().mean()) for m in (change.before, change.after))
        if before or after:
            lines.append(
                {
                    "class": name,
                    "before %": f"{before:.1f}",
                    "after %": f"{after:.1f}",
                    "change": f"{after - before:+.1f}",
                }
            )
    return lines
