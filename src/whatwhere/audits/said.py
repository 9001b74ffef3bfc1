"""What a comparison says: what differs for sure, what is not shown to differ, and a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy import special

from whatwhere.audits.differences import Row
from whatwhere.audits.pairs import ITSELF
from whatwhere.intervals import LEVEL, Z

EACH = "95 % covers"
SHOWN = ("quantity", "share %", "network's own", "the other's", "difference", "95 %", "paired", "pictures")
FEW = 4  # differences that a sentence names


def shown(row: Row, x: float) -> str:
    """A number of a row as it is shown."""
    return f"{row.scale * x + 0.0:.{row.digits}f}"


def signed(row: Row, x: float) -> str:
    """A difference as it is shown."""
    return f"{row.scale * x + 0.0:+.{row.digits}f}"


def interval(row: Row) -> str:
    """Its interval as it is shown."""
    return f"[{signed(row, row.difference.low)}, {signed(row, row.difference.high)}]"


def is_sure(row: Row, of: int) -> bool:
    """Whether the interval leaves out 0 also when it is as wide as the one of so many that all hold at once.

    Bonferroni's correction, by the ratio of the normal quantiles.

    Args:
        row: a difference.
        of: how many the sentences are about.
    """
    e = row.difference
    if e.mean == 0 or not math.isfinite(e.low) or not math.isfinite(e.high):
        return False
    wider = float(special.ndtri(1 - (1 - LEVEL) / 2 / max(1, of))) / Z
    return e.mean - wider * (e.mean - e.low) > 0 or e.mean + wider * (e.high - e.mean) < 0


def sentences(rows: Sequence[Row], labels: Sequence[str]) -> list[str]:
    """One or two for each network that is compared with the first.

    Args:
        rows: every difference.
        labels: of the networks, the first that of the one that is compared with.
    """
    leading = [r for r in rows if r.leads]
    return [s for label in labels[1:] for s in _of(label, labels[0], leading)]


def _of(label: str, first: str, leading: Sequence[Row]) -> Iterator[str]:
    rows = [r for r in leading if r.network == label]
    if not rows:
        yield f"{label} and {first} have nothing in common that could be compared."
        return
    if all(r.difference.covers == ITSELF for r in rows):
        yield f"{label} is the same network as {first}, and every difference is 0."
        return
    if any(r.difference.covers == ITSELF for r in rows):
        yield f"{label} is the same network as {first}: what differs comes of draws, and of how much was asked."
    sure = [r for r in rows if is_sure(r, len(leading))]
    open_ones = [r for r in rows if r not in sure]
    if sure:
        yield f"{label} differs for sure from {first} in {_listed(sure)}."
    if open_ones:
        start = "Not sure is a difference" if sure else f"{label} is not shown for sure to differ from {first}"
        yield f"{start} in {_listed(open_ones)}."


def _listed(rows: Sequence[Row]) -> str:
    """Differences in words: those at many depths of one kind by their largest."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.what, []).append(row)
    said = [_said(same) for same in kinds.values()]
    more = f", and {len(said) - FEW} more" if len(said) > FEW else ""
    return ", ".join(said[:FEW]) + more


def _said(rows: Sequence[Row]) -> str:
    r = max(rows, key=lambda r: abs(r.difference.mean))
    deep = f" from the last {100 * r.shares[1]:.0f} % on" if r.shares[1] is not None and len(rows) > 1 else ""
    many = f" at {len(rows)} depths, most" if len(rows) > 1 else ""
    unit = f" {r.unit}" if r.unit else ""
    how = f"paired, {r.difference.n} pictures" if r.paired else f"unpaired, {r.second.n} and {r.first.n} pictures"
    return f"{r.what}{many}{deep} ({signed(r, r.difference.mean)}{unit} {interval(r)}, {how})"


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Some columns of a table, aligned for a terminal; a part for each network.

    Args:
        rows: of `Comparison.table`, those that lead.
    """
    heads = {f"{r['network']} against {r['against']}": r["network"] for r in rows}
    return "\n\n".join(f"{head}\n{_aligned([r for r in rows if r['network'] == n])}" for head, n in heads.items())


def _aligned(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [SHOWN, *([str(r[c]) for c in SHOWN] for r in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
