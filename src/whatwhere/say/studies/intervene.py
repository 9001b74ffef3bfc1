"""Intervene: overwrite concept maps of a picture, compute all that follows again, and report what changes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whatwhere.data.concept_counts import matching
from whatwhere.data.concepts import CLASS
from whatwhere.errors import InputError
from whatwhere.report.page import Report, Table, write_report
from whatwhere.report.panels import maps_figure
from whatwhere.studies.bottleneck.explain import SHARE, Speaker, checked_rows, coloured, rested, with_classes
from whatwhere.studies.bottleneck.study import Setting

TRUTH = "truth"
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Change:
    """What an intervention did to one picture.

    Attributes:
        before: (h, w) class said, at the cells' centres.
        after: likewise, with the maps overwritten.
        maps: (K, h, w) as they were.
        edited: (K, h, w) as they were overwritten.
    """

    before: Tensor
    after: Tensor
    maps: Tensor
    edited: Tensor

    @property
    def changed(self) -> float:
        """Share of the picture that is said otherwise."""
        return float((self.before != self.after).float().mean())


def intervened(speaker: Speaker, row: int, values: Mapping[str, float | str], box: Box | None = None) -> Change:
    """Overwrite concepts of one test picture.

    Args:
        speaker: the network.
        row: of the test picture.
        values: by concept (a pattern such as `"part: *"` is several): a number from 0 to 1, or `"truth"`, the labels.
        box: only there: top, bottom, left, right as shares of the picture; None: everywhere.

    Raises:
        InputError: for a concept nobody knows, a value outside [0, 1], or an empty box.
    """
    checked_rows([row], len(speaker.test))
    assert speaker.said.maps is not None
    own = speaker.said.maps[row]
    edited, inside = own.clone(), _inside(box, own.shape[-2:])
    given = speaker.test.shares_at(torch.tensor([row]))[0]
    for pattern, value in values.items():
        for name in matching(speaker.layer.names, [pattern]):
            k = speaker.layer.names.index(name)
            wanted = torch.where(given[k] >= 0, given[k].float(), own[k]) if value == TRUTH else _number(name, value)
            edited[k] = torch.where(inside, wanted, own[k])
    before, after = rested(speaker, torch.stack([own, edited])).argmax(1)
    return Change(before, after, own, edited)


def _number(name: str, value: float | str) -> Tensor:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise InputError(f"{name}={value}: give a number from 0 (absent) to 1 (present), or {TRUTH!r}.")
    return torch.tensor(number)


def _inside(box: Box | None, size: Sequence[int]) -> Tensor:
    h, w = size
    if box is None:
        return torch.ones(h, w, dtype=torch.bool)
    top, bottom, left, right = box
    y, x = (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w
    found = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
    if not bool(found.any()):
        raise InputError(f"box={box}: give top, bottom, left, right as shares of the picture, such as 0.5,1,0,1.")
    return found


def intervene(
    setting: Setting, site: str, row: int, values: Mapping[str, float | str], out: str | os.PathLike[str],
    *, box: Box | None = None,
) -> Change:  # fmt: skip
    """Write a page on an intervention: what was overwritten, what was said before and after.

    Args:
        setting: a finished study.
        site: of the bottleneck.
        row: of the test picture.
        values: see `intervened`.
        out: folder of the page.
        box: see `intervened`.

    Returns:
        What changed.
    """
    speaker = Speaker(setting, site)
    change = intervened(speaker, row, values, box)
    scenes = setting.bench.scenes
    picture, maps = speaker.test.split[row]
    touched = [k for k in range(len(change.maps)) if not torch.equal(change.maps[k], change.edited[k])]
    drawn: dict[str, list[Any]] = {
        "said": [picture.permute(1, 2, 0).numpy(), coloured(change.before, scenes.colours),
                 coloured(change.after, scenes.colours), coloured(maps[CLASS], scenes.colours)],
    }  # fmt: skip
    for k in touched[:8]:
        drawn[speaker.layer.names[k]] = [None, change.maps[k].numpy(), change.edited[k].numpy(), None]
    report = Report(
        title="What if a concept were otherwise?",
        lead=f"Test picture {row} at {site}: {', '.join(f'{k} = {v}' for k, v in values.items())}; "
        f"{100 * change.changed:.1f} % of the picture is said otherwise.",
        figures={
            "intervention": with_classes(
                maps_figure(drawn, ["picture", "before", "after", "truth"], limits=SHARE), scenes
            )
        },
        tables=[Table("Share of the picture said to be each class", class_lines(change, scenes.classes))],
        notes=["Everything behind the concept maps is computed again; nothing is trained."],
        facts={"site": site, "picture": row, "overwritten": {k: str(v) for k, v in values.items()}, "box": str(box)},
    )
    write_report(Path(out), report)
    return change


def class_lines(change: Change, classes: Sequence[str]) -> list[dict[str, str]]:
    """Each class's share before and after."""
    lines = []
    for c, name in enumerate(classes):
        before, after = (100 * float((m == c).float().mean()) for m in (change.before, change.after))
        if before or after:
            lines.append({"class": name, "before %": f"{before:.1f}", "after %": f"{after:.1f}",
                          "change": f"{after - before:+.1f}"})  # fmt: skip
    return lines
