"""What the rows say, in words: one number, its interval and its control; the table has the rest."""

from __future__ import annotations

from collections.abc import Sequence

from whatwhere.hold.features import RGB
from whatwhere.hold.studies.pictures import PICTURES
from whatwhere.hold.studies.readout_result import ALL, Row
from whatwhere.hold.studies.token_controls import EMBEDDING, LABELS, PATCHES
from whatwhere.hold.studies.variants import GIVEN, UNTRAINED

SAID = {EMBEDDING: "the position embedding at its mean", PATCHES: "patches in a random order"}
MORE, LESS, ALIKE = "more than", "less than", "neither clearly more nor clearly less than"


def conclude(rows: Sequence[Row]) -> str:
    """The best read-out of the first target (best on these test pictures) and its control, then the other targets."""
    pictured = [r for r in rows if r.inputs == PICTURES]
    readout, kernel = pictured[0].readout, pictured[0].kernel
    chosen = [r for r in pictured if (r.readout, r.kernel) == (readout, kernel)]
    targets = list(dict.fromkeys(r.target for r in chosen))
    best = {target: _best(chosen, target) for target in targets}
    first = best[targets[0]]
    fresh = _like(chosen, first, UNTRAINED)
    return " ".join([_first(first, fresh), *_origin(chosen, first), *_others(best, targets[1:])])


def _best(rows: Sequence[Row], target: str) -> Row:
    own = [r for r in rows if r.network == GIVEN and r.target == target]
    return max([r for r in own if r.site != RGB] or own, key=lambda r: r.spc.mean)


def _like(rows: Sequence[Row], best: Row, network: str) -> Row | None:
    """The same read-out of another network."""
    return next((r for r in rows if r.network == network and r.place == best.place), None)


def _origin(rows: Sequence[Row], best: Row) -> list[str]:
    """Where a transformer has it from: which of the two controls takes it away."""
    found = {kind: r for kind, label in LABELS.items() if (r := _like(rows, best, label))}
    if not found or best.site == RGB:
        return []
    lost = {kind for kind, r in found.items() if r.spc.high < best.spc.low}
    said = [f"{SAID[kind]} {r.spc.mean:.2f} [{r.spc.low:.2f}, {r.spc.high:.2f}]" for kind, r in found.items()]
    origin = {
        frozenset({EMBEDDING}): "it comes from the embedding",
        frozenset({PATCHES}): "it comes from what the pictures show where, or from their borders",
        frozenset({EMBEDDING, PATCHES}): "it comes from the embedding and from what the pictures show where",
    }.get(frozenset(lost), "neither is clearly less" if len(found) > 1 else "not clearly less")
    return [f"With {', with '.join(said)}: {origin}."]


def _first(best: Row, fresh: Row | None) -> str:
    where = {ALL: "all sites together", RGB: "the raw input"}.get(best.site, best.site)
    at = f" at {best.size} px" if best.size else ""
    spc = f"SPC {best.spc.mean:.2f} [{best.spc.low:.2f}, {best.spc.high:.2f}]{at}"
    read = (
        f"{best.target} is read out of {where} with {spc} "
        f"({best.kernel}x{best.kernel} {best.readout} read-out, {best.spc.n} pictures)"
    )
    if best.site == RGB:
        return f"{read}."
    if fresh is None:
        return f"{read}; no untrained network was measured, so this may be the architecture alone."
    if best.above_untrained is None:
        return f"{read}; a single untrained network has {fresh.spc.mean:.2f}, too few for an interval."
    return f"{read}, {_verdict(best)} the {fresh.spc.repeats} untrained networks' {fresh.spc.mean:.2f}."


def _verdict(row: Row) -> str:
    above = row.above_untrained
    if above is None:
        return ""
    return MORE if above.low > 0 else LESS if above.high < 0 else ALIKE


def _others(best: dict[str, Row], targets: Sequence[str]) -> list[str]:
    """Which of the other targets are held more, less or alike; nothing without an interval."""
    known = [t for t in targets if best[t].site != RGB]
    found = {verdict: [t for t in known if _verdict(best[t]) == verdict] for verdict in (MORE, LESS, ALIKE)}
    said = [f"{verdict} untrained for {', '.join(names)}" for verdict, names in found.items() if names]
    return [f"At their best sites: {'; '.join(said)}."] if said else []
