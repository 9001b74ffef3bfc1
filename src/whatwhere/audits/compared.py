"""From folders of audits to their comparison."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from whatwhere.audits.comparison import Comparison, Curve
from whatwhere.audits.differences import Compared, Row
from whatwhere.audits.folder import Audited, audited
from whatwhere.errors import InputError
from whatwhere.hold.studies.readout_result import Row as Read
from whatwhere.intervals import Estimate
from whatwhere.lab.cells import STUDY
from whatwhere.lab.provenance import provenance
from whatwhere.need.studies.result import GAP_FC, LABELS
from whatwhere.report.figures import Line

FIRST_METHOD, FIRST_TARGET = "per-channel", "H"  # that are not switched off at first
UNTRAINED = "untrained"


def comparison_of(folders: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Compare audits with the first of them.

    Args:
        folders: see `audited`.

    Raises:
        InputError: see `audited`.
    """
    started = time.perf_counter()
    every = audited(folders)
    pairs = [Compared(every[0], other) for other in every[1:]]
    rows = [row for pair in pairs for row in pair.rows()]
    left = [(pair.second.label, what, why) for pair in pairs for what, why in pair.left_out]
    score = every[0].found.measured
    return Comparison(
        audits=tuple(map(_described, every)),
        rows=tuple(rows),
        plain=tuple(_plain(every)),
        left_out=tuple({"quantity": what, "network": n, "left out, because": why} for n, what, why in left),
        curves=(*(c for one in every for c in _curves(one)), *_differences(rows)),
        unit=score.points.strip() or score.label,
        notes=tuple(_notes(every, rows)),
        provenance=provenance(time.perf_counter() - started),
    )


def refuse_out(out: str | os.PathLike[str]) -> None:
    """Refuse to write into a study's folder.

    Raises:
        InputError: naming it.
    """
    if (Path(out) / STUDY).exists():
        raise InputError(f"out={os.fspath(out)!r} holds a study; choose another folder for the comparison.")


def _described(one: Audited) -> dict[str, Any]:
    return {
        "label": one.label,
        "folder": str(one.folder),
        "network": one.found.network,
        "data": one.found.data.get("name", ""),
        "pictures": one.fingerprint(),
        "score": one.found.measured.name,
        "minutes": one.found.settings.get("minutes"),
        "seed": one.found.settings.get("seed"),
        "weights": one.asked.get("weights", ""),
    }


def _plain(every: Sequence[Audited]) -> Iterator[dict[str, str]]:
    """What was measured once or is exact; times of one machine only."""
    machines = [one.found.provenance.get("hardware") for one in every]
    if all(one.found.speed for one in every):
        yield {"quantity": "operations of a picture (GFLOP)", **_each(every, lambda s: f"{s['flops'] / 1e9:.2f}")}
        if all(m == machines[0] for m in machines):
            times = _each(every, lambda s: f"{1000 * s['forward']:.1f}")
            yield {"quantity": "forward pass, ms a picture, timed once", **times}
    right = {one.label: _known(one) for one in every}
    yield {"quantity": "known answers that are right", **right}


def _each(every: Sequence[Audited], show: Any) -> dict[str, str]:
    return {one.label: show(one.found.speed) for one in every}


def _known(one: Audited) -> str:
    known = one.found.known
    return f"{sum(bool(k['right']) for k in known)} of {len(known)}" if known else "not asked"


def _curves(one: Audited) -> Iterator[Curve]:
    """Of one network, for every chart."""
    score, need, hold = one.found.measured, one.found.need, one.found.hold
    points = need.points if need else ()
    for method in dict.fromkeys(p.method for p in points):
        rows = [(p.depth_share, p.drop) for p in points if p.method == method and p.drop]
        label = f"{one.label}, {LABELS.get(method, f'shuffle, {method}')}"
        yield Curve("need", _line(label, rows, score.scale), hidden=method != FIRST_METHOD)
    if hold:
        for target, network in product(dict.fromkeys(r.target for r in hold.rows), ("network", UNTRAINED)):
            yield _read(one, hold.of(network, target=target, inputs="pictures"), target, network)
    shares = {s["name"]: s["depth_share"] for s in one.found.sites}
    fields = one.found.parts.get("fields", {}).get("fields", ())
    seen = [(shares[f["site"]], Estimate(**f["r50"])) for f in fields if f["site"] in shares]
    if seen:
        yield Curve("fields", _line(one.label, seen, 1.0))


def _read(one: Audited, rows: Sequence[Read], target: str, network: str) -> Curve:
    control = network == UNTRAINED
    label = f"{one.label}, {target}{', untrained' if control else ''}"
    found = [(r.depth_share, r.spc) for r in rows if r.site not in ("all", "rgb")]
    return Curve("hold", _line(label, found, 1.0), control, target != FIRST_TARGET)


def _line(label: str, rows: Sequence[tuple[float, Estimate]], scale: float) -> Line:
    ordered = sorted(rows, key=lambda r: r[0])
    x = tuple(100 * share for share, _ in ordered)
    y, low, high = (tuple(scale * getattr(e, part) for _, e in ordered) for part in ("mean", "low", "high"))
    return Line(label, x, y, low, high)


def _differences(rows: Sequence[Row]) -> Iterator[Curve]:
    """The difference of what is lost, at the second network's depth."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for r in rows:
        if r.part == "need" and r.shares[1] is not None and LABELS[GAP_FC] not in r.what:
            kinds.setdefault((r.network, r.what), []).append(r)
    for (network, what), same in kinds.items():
        found = [(r.shares[1] or 0.0, r.difference) for r in same]
        yield Curve("difference", _line(f"{network}, {what}", found, same[0].scale), hidden=not same[0].leads)


def _notes(every: Sequence[Audited], rows: Sequence[Row]) -> Iterator[str]:
    first = every[0]
    n = len(rows)
    yield (
        f"{n} differences have a 95 % interval each: were there none at all, {n / 20:.1f} of them would leave out 0 by "
        "chance. The sentences hold all at once: what differs for sure leaves out 0 also after Bonferroni's "
        "correction for all that they are about."
    )
    yield (
        "The best site and the mildest collapse are each network's own, chosen by the same pictures: their intervals "
        "do not cover that choice."
    )
    if every[0].found.need:
        yield "A network that has more of the score can lose more of it: read the losses beside the intact networks."
    for other in every[1:]:
        yield from _apart(first, other)
    for note in dict.fromkeys(note for one in every for note in one.found.notes):
        yield f"{', '.join(one.label for one in every if note in one.found.notes)}: {note}"


def _apart(first: Audited, other: Audited) -> Iterator[str]:
    """What else differs between two audits."""
    if first.fingerprint() != other.fingerprint():
        yield f"{other.label} was asked on other pictures than {first.label}: the difference is of both."
    elif unknown := [one.label for one in (first, other) if "need" in one.found.parts and not one.pictures("need")]:
        yield (
            f"Which of the pictures were asked is not recorded in {' and '.join(unknown)} (an earlier version "
            "wrote it): unless all are the same, differences are unpaired; audit again for paired ones."
        )
    if first.is_same_network(other):
        both = f"{first.label} and {other.label} are the same network"
        yield f"{both}: what differs comes of draws and of how much was asked."
    sizes = [_size(one.found.preprocessing) for one in (first, other)]
    if sizes[0] != sizes[1]:
        yield f"{first.label} saw pictures of {sizes[0]}, {other.label} of {sizes[1]}."
    fitted = [one.fitted for one in (first, other)]
    if None not in fitted and fitted[0] != fitted[1]:
        yield (
            f"Position was read out of {fitted[0]} pictures in {first.label}, of {fitted[1]} in {other.label}: more "
            "pictures make a better read-out."
        )


def _size(preprocessing: Mapping[str, Any]) -> str:
    return " x ".join(map(str, preprocessing.get("size") or ())) or "their own size"
