"""Cells folded into one result: means over seeds, intervals over groups of pictures, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from whatwhere.data.scenes import Scenes
from whatwhere.errors import InputError
from whatwhere.lab.packed import unpack_scores
from whatwhere.resampling import over_groups
from whatwhere.say.studies.compare_cell import SURE, finite
from whatwhere.say.studies.compare_result import ALTERED, SayResult
from whatwhere.say.studies.concept_spec import BRODEN
from whatwhere.say.studies.inspection import counts_of, difference
from whatwhere.say.studies.kinds import CEILING
from whatwhere.say.studies.say_row import Interval, SayRow
from whatwhere.say.studies.words import CONTROLS, LIKE, on_broden
from whatwhere.training.evaluate_scenes import Counts, class_iou, pixel_accuracy, pooled_miou

Key = tuple[str, str, int]
RARE = 5  # groups that a class lies in
NAMED = 12  # concepts, or other things, that a note names at most
# Coverages near 0, or as near to 1, whose intervals hold them less than 93 times in 100 (benchmarks/coverage.py).
SMALL, MANY = 0.1, 25  # below this in fewer groups
TINY = 0.03  # below this in any number of them


def folded(
    found: Mapping[Key, Mapping[str, Any]], scenes: Scenes, about: Mapping[str, Any], notes: Sequence[str] = ()
) -> SayResult:
    """One result of finished cells.

    Args:
        found: cells by site, kind and seed; those without draws have the seed 0.
        scenes: that they are of.
        about: settings of the study, with `sites`, `kinds` and `seeds` in the order of the rows.
        notes: what else the reader must know.

    Raises:
        InputError: if no cell of a network is finished.
    """
    classes = len(scenes.classes)
    rows = tuple(_rows(found, about, classes))
    if not rows:
        raise InputError("no cell of a network is finished; run the study without fold_only.")
    top = next((found[s, CEILING, 0] for s in about["sites"] if (s, CEILING, 0) in found), None)
    heads = next((cell for cell in found.values() if "heads" in cell), None)
    return SayResult(
        rows=rows,
        classes=scenes.classes,
        data=scenes.describe(),
        settings=dict(about),
        ceiling=_interval(_per_group(top, classes)[None], pooled_miou) if top else None,
        concepts=(top or heads or {"counts": []})["counts"],
        notes=(
            *_notes(rows, top, few_groups(found, scenes.classes)),
            *(broden_notes(rows, heads) if about["concepts"].get(BRODEN) else ()),
            *notes,
        ),
    )


def _rows(found: Mapping[Key, Mapping[str, Any]], about: Mapping[str, Any], classes: int) -> Iterator[SayRow]:
    for site in about["sites"]:
        at_site = {kind: _seeds_of(found, site, kind, about["seeds"]) for kind in about["kinds"]}
        if at_site.get("intact"):
            yield from (_row(site, kind, at_site, classes) for kind, there in at_site.items() if there)


def _seeds_of(
    found: Mapping[Key, Mapping[str, Any]], site: str, kind: str, seeds: Sequence[int]
) -> list[Mapping[str, Any]]:
    drawn = (0,) if kind == "intact" else seeds
    return [found[site, kind, s] for s in drawn if (site, kind, s) in found]


def _row(site: str, kind: str, at_site: Mapping[str, Sequence[Mapping[str, Any]]], classes: int) -> SayRow:
    """One kind, beside what else there is at its site."""
    each = [_per_group(cell, classes) for cell in at_site[kind]]
    mean, every, first = np.mean(each, 0), np.stack(each), at_site[kind][0]

    def change(control: str) -> Interval:
        """Seed by seed where both have as many, else from the control's mean."""
        plain = np.stack([_per_group(cell, classes) for cell in at_site[control]])
        plain = plain if len(plain) == len(every) else plain.mean(0)[None]
        return _interval(np.stack([every, np.broadcast_to(plain, every.shape)], 2), _miou_change, low=-1.0)

    extras = {k: first[k] for k in ("confidence", "inspection", "failures", "leakage") if k in first}
    if kind not in SURE:
        extras.pop("confidence", None)
    if "inspection" in extras:
        extras["inspection"] = _inspection(kind, at_site)
    if "leakage" in extras:
        extras["leakage"] = _leakage(extras["leakage"], first["names"])
    return SayRow(
        site=site,
        kind=kind,
        channels=first["channels"],
        names=tuple(first["names"]),
        miou=_interval(every, pooled_miou),
        accuracy=_interval(every, _accuracy),
        change=None if kind == "intact" else change("intact"),
        against={c: change(c) for c in CONTROLS if kind not in (c, "intact") and at_site.get(c)},
        seeds=tuple(round(pooled_miou(e.sum(0)), 6) for e in each),
        iou=tuple(finite(v) for v in class_iou(torch.from_numpy(mean.sum(0))).tolist()),
        extras=extras,
    )


def _inspection(kind: str, at_site: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What the first seed measured, and how far its AUiC is above that of the site's other channels."""
    own = at_site[kind][0]["inspection"]
    others = {c: at_site[c][0].get("inspection", {}) for c in LIKE if c != kind and at_site.get(c)}
    counts = counts_of(own)
    pairs = {c: counts_of(seen) for c, seen in others.items()} if counts is not None else {}
    against = {c: difference(counts, other) for c, other in pairs.items() if counts is not None and other is not None}
    return {**{k: v for k, v in own.items() if k != "counts"}, "against": against}


def _leakage(cells: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """MIoU of every overwriting."""
    drops = [pooled_miou(np.array(c, float)) for c in cells["dropped"]]
    few = pooled_miou(np.array(cells["few"], float))
    return {
        **{k: pooled_miou(np.array(cells[k], float)) for k in ALTERED if k in cells},
        "dropped": {n: d - few for n, d in zip(names, drops, strict=True)},
        "few n": cells["few n"],
    }


def _per_group(cell: Mapping[str, Any], classes: int) -> Counts:
    """(groups, classes, classes) confusions."""
    counted = unpack_scores(cell["confusions"]).reshape(cell["n"], classes, classes)
    _, index = np.unique(cell["groups"], return_inverse=True)
    total = np.zeros((index.max() + 1, classes, classes))
    np.add.at(total, index, counted)
    return total


def _interval(counts: Counts, statistic: Any, low: float = 0.0) -> Interval:
    """Of counts (seeds, groups, ...)."""
    whole = counts.mean(0).sum(0)
    found = over_groups(counts, lambda total: statistic(total, whole), low=low, high=1.0, networks=True)
    return Interval(found.value, found.low, found.high, found.groups, found.covers)


def _miou_change(total: Counts, whole: Counts) -> float:
    return pooled_miou(total[0], whole[0]) - pooled_miou(total[1], whole[1])


def _accuracy(total: Counts, whole: Counts) -> float:
    return pixel_accuracy(torch.from_numpy(np.asarray(total)))


def few_groups(found: Mapping[Key, Mapping[str, Any]], classes: Sequence[str]) -> list[str]:
    """The classes whose pixels lie in few groups of test pictures: as if in fewer than `RARE` equal ones."""
    cell = next(iter(found.values()))
    pixels = _per_group(cell, len(classes)).sum(-1)
    equal = pixels.sum(0) ** 2 / np.maximum((pixels**2).sum(0), 1e-300)  # Kish's effective number
    return [name for name, n in zip(classes, equal, strict=True) if 0 < n < RARE]


def extreme_coverages(rows: Sequence[SayRow]) -> list[str]:
    """Confidences that answer so little, or all but so little, that the interval of their coverage is too narrow."""
    found = []
    for row in rows:
        limit = SMALL if row.miou.groups < MANY else TINY
        for name, m in row.extras.get("confidence", {}).get("measures", {}).items():
            if 0 < min(m["coverage"], 1 - m["coverage"]) < limit:  # of 0 and 1 the interval is exact
                found.append(f"{name} ({row.kind} at {row.site})")
    return found


def _named(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:NAMED]) + f" and {len(names) - NAMED} more" * (len(names) > NAMED)


def _notes(rows: Sequence[SayRow], top: Mapping[str, Any] | None, rare: Sequence[str]) -> Iterator[str]:
    groups, seeds = rows[0].miou.groups, max(len(r.seeds) for r in rows)
    again = ", and over the seeds of what is drawn or trained behind the site where there are several" * (seeds > 1)
    yield (
        f"95 % intervals are over {groups} groups of test pictures, such as pieces of a video (jackknife, Student's t)"
        f"{again}; they do not contain the noise of training the network, which is one."
    )
    if rare:
        yield (
            f"Nearly all test pixels of {_named(rare)} lie in fewer than {RARE} groups: the mIoU on other pictures is "
            "known badly, and its 95 % intervals hold it 80 to 93 times in 100, those of its change 90 to 95 times."
        )
    if extreme := extreme_coverages(rows):
        yield (
            f"The coverage of {_named(extreme)} is near 0 or 1, where a few groups can hold most of what is answered, "
            "or is not: over up to ten groups its 95 % interval holds it 91 to 93 times in 100 at 5 or 95 %, and 79 to "
            "91 times at 1 or 99 % (over 25 and 50 groups 87 to 89 times)."
        )
    copies = {c["concept"]: c["copy of"] for c in (top["counts"] if top else []) if c["copy of"]}
    if copies:
        text = "; ".join(f"{concept} is there exactly where {of} is" for concept, of in copies.items())
        yield f"In the training pictures these concepts coincide with a class: {text}."


def broden_notes(rows: Sequence[SayRow], heads: Mapping[str, Any] | None) -> Iterator[str]:
    """On concepts that are labelled in pictures of Broden+ alone.

    Args:
        rows: of the result.
        heads: a cell whose concept heads were fitted, if there is one.
    """
    if heads:
        yield from _fitted_on(heads["heads"])
    yield (
        "The scenes have no labels for these concepts: whether a concept map is right in the scenes is not measured. "
        "Without such labels these are left out: the ceiling (a table from the true concepts), the kind truth, maps "
        "corrected by the labels (oracle), and the labels' share at failures."
    )
    seen = next((r.extras["inspection"] for r in rows if on_broden(r)), None)
    if seen is None:
        yield "AUiC is not measured: the Broden+ folder has no validation or calibration pictures with these concepts."
    else:
        yield (
            f"AUiC is measured on {seen['pictures']} pictures of Broden+'s validation split, at places drawn at random "
            "among the labelled ones, not on the scenes; thresholds are chosen on its calibration pictures."
        )


def _fitted_on(heads: Mapping[str, Any]) -> Iterator[str]:
    held = heads["calibration pictures"]
    calibrated = f"{held} others" if held else "the same ones (there are too few to hold any out)"
    yield (
        f"The concepts are Broden+'s: their heads are fitted on {heads['fit pictures']} of its training pictures and "
        f"calibrated on {calibrated}, at {heads['places']} places in all."
    )
    if heads["left out"]:
        yield f"Left out, as Broden+'s pictures label them never present or never absent: {_named(heads['left out'])}."
