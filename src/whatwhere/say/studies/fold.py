"""Cells folded into one result: means over seeds, intervals over groups of pictures, paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.resampling import over_groups
from whatwhere.studies.bottleneck.cell import SURE, finite
from whatwhere.studies.bottleneck.kinds import CEILING
from whatwhere.studies.bottleneck.result import BottleneckResult, Interval, SayRow
from whatwhere.studies.packed import unpack_scores
from whatwhere.training.evaluate_scenes import class_iou, pixel_accuracy

Key = tuple[str, str, int]
Counts = NDArray[np.float64]
FEW_GROUPS = 20


def folded(
    found: Mapping[Key, Mapping[str, Any]], scenes: Scenes, about: Mapping[str, Any], provenance: Mapping[str, Any]
) -> BottleneckResult:
    """One result of finished cells.

    Args:
        found: cells by site, kind and seed.
        scenes: that they are of.
        about: settings of the study.
        provenance: command, versions, hardware.

    Raises:
        InputError: if no cell of a network is finished.
    """
    classes = len(scenes.classes)
    sites, kinds, seeds = about["sites"], about["kinds"], about["seeds"]
    rows = []
    for site in sites:
        intact = found.get((site, "intact", seeds[0]))
        for kind in kinds:
            drawn = seeds[:1] if kind == "intact" else seeds  # which nothing was drawn for
            there = [found[site, kind, s] for s in drawn if (site, kind, s) in found]
            if there and intact:
                rows.append(_row(site, kind, there, intact, classes))
    if not rows:
        raise InputError("no cell is finished; run the study without run=False.")
    top = found.get((sites[0], CEILING, 0))
    missing = [f"{k} at {s}, seed {i}" for s in sites for k in kinds for i in seeds if (s, k, i) not in found]
    return BottleneckResult(
        rows=tuple(rows), classes=scenes.classes, data=scenes.describe(), settings=dict(about),
        ceiling=_interval(_per_group(top, classes), _miou) if top else None,
        concepts=top["counts"] if top else [], notes=tuple(_notes(rows, top, missing)), provenance=dict(provenance),
    )  # fmt: skip


def _row(
    site: str, kind: str, there: Sequence[Mapping[str, Any]], intact: Mapping[str, Any], classes: int
) -> SayRow:  # fmt: skip
    each = [_per_group(cell, classes) for cell in there]
    plain, mean = _per_group(intact, classes), np.mean(each, 0)
    first = there[0]
    paired = np.stack([mean, plain], 1)
    change = None if kind == "intact" else _interval(paired, _miou_change)
    extras = {k: first[k] for k in ("confidence", "inspection", "failures", "leakage") if k in first}
    if kind not in SURE:
        extras.pop("confidence", None)
    if "leakage" in extras:
        extras["leakage"] = _leakage(extras["leakage"], first["names"])
    return SayRow(
        site=site, kind=kind, channels=first["channels"], names=tuple(first["names"]),
        miou=_interval(mean, _miou), accuracy=_interval(mean, _accuracy), change=change,
        seeds=tuple(round(_miou(e.sum(0)), 6) for e in each),
        iou=tuple(finite(v) for v in class_iou(torch.from_numpy(mean.sum(0))).tolist()), extras=extras,
    )  # fmt: skip


def _leakage(cells: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """MIoU of every overwriting."""
    drops = [_miou(np.array(c, float)) for c in cells["dropped"]]
    few = _miou(np.array(cells["few"], float))
    return {
        **{k: _miou(np.array(cells[k], float)) for k in ("binarised", "permuted", "oracle")},
        "dropped": {n: d - few for n, d in zip(names, drops, strict=True)}, "few n": cells["few n"],
    }  # fmt: skip


def _per_group(cell: Mapping[str, Any], classes: int) -> Counts:
    """(groups, classes, classes) confusions."""
    counted = unpack_scores(cell["confusions"]).reshape(cell["n"], classes, classes)
    _, index = np.unique(cell["groups"], return_inverse=True)
    total = np.zeros((index.max() + 1, classes, classes))
    np.add.at(total, index, counted)
    return total


def _interval(counts: Counts, statistic: Any) -> Interval:
    whole = counts.sum(0)
    drawn = over_groups(counts, lambda total: statistic(total, whole))
    return Interval(drawn.value, drawn.low, drawn.high, drawn.groups)


def _miou(total: Counts, whole: Counts | None = None) -> float:
    """Of a draw: over the classes of all pictures; one that the draw lacks counts as it does in all of them."""
    seen = torch.from_numpy(np.asarray(total))
    every = seen if whole is None else torch.from_numpy(np.asarray(whole))
    iou = class_iou(seen).where(seen.sum(-1) > 0, class_iou(every))
    return float(iou[every.sum(-1) > 0].mean())


def _miou_change(total: Counts, whole: Counts) -> float:
    return _miou(total[0], whole[0]) - _miou(total[1], whole[1])


def _accuracy(total: Counts, whole: Counts) -> float:
    return pixel_accuracy(torch.from_numpy(np.asarray(total)))


def _notes(rows: Sequence[SayRow], top: Mapping[str, Any] | None, missing: Sequence[str]) -> list[str]:
    groups = rows[0].miou.groups
    notes = [
        f"Intervals are over {groups} groups of test pictures (cluster bootstrap, 95 %), such as pieces of a video; "
        "they do not contain the noise of training the network, which is one."
    ]
    if groups < FEW_GROUPS:
        notes.append(f"{groups} groups are few: such intervals are too narrow.")
    copies = {c["concept"]: c["copy of"] for c in (top["counts"] if top else []) if c["copy of"]}
    if copies:
        text = "; ".join(f"{concept} is there exactly where {of} is" for concept, of in copies.items())
        notes.append(f"In the training pictures these concepts coincide with a class: {text}.")
    if missing:
        notes.append(f"Not finished: {'; '.join(missing)}.")
    return notes
