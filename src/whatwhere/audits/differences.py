"""Every difference of one audit against another, and why the others are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from whatwhere.audits.folder import PATCHES, Audited
from whatwhere.audits.pairs import Pair, Rows, Side, of_itself, paired, paired_scores, paired_sets, side_of, unpaired
from whatwhere.hold.studies.readout_result import ReadoutResult
from whatwhere.hold.studies.readout_result import Row as Read
from whatwhere.intervals import GROUPS, GROUPS_AND_DRAWS, Estimate
from whatwhere.need.studies.result import GAP_FC, LABELS, Point
from whatwhere.need.studies.set_tally import Groups
from whatwhere.need.studies.tally import Place, Tallies, Tally

LOST = "loss"
NEAR = 0.1  # of the depth: places of two networks that are no further apart are compared
HELD_NAMES = {"H": "columns (H)", "V": "rows (V)", "G": "the middle (G)"}
Both: TypeAlias = tuple[Estimate, Estimate]
At: TypeAlias = tuple[Tallies, Place | None]
SAME_SITE, SAME_DEPTH, BEST = "the same site", "nearest depth", "each network's own"


@dataclass(frozen=True)
class Row:
    """A quantity of two networks.

    Attributes:
        network: the one that is compared.
        against: the first one.
        part: of the audit: need, patches, hold, fields.
        what: the quantity.
        first: of the network that is compared with; where they are paired, on the pictures that both saw.
        second: of the other.
        difference: second minus first.
        paired: whether picture by picture; else of two independent numbers.
        sites: where, in either.
        shares: their depth shares.
        matched: how the two places were found.
        controls: of untrained networks at these places, where there are any.
        scale: what numbers are multiplied with to be shown.
        unit: of a difference that is shown.
        digits: behind the point.
        leads: whether the sentences are about it.
    """

    network: str
    against: str
    part: str
    what: str
    first: Estimate
    second: Estimate
    difference: Estimate
    paired: bool
    sites: tuple[str, str] = ("", "")
    shares: tuple[float | None, float | None] = (None, None)
    matched: str = ""
    controls: tuple[float | None, float | None] = (None, None)
    scale: float = 1.0
    unit: str = ""
    digits: int = 2
    leads: bool = False


@dataclass
class Compared:
    """One audit against another.

    Attributes:
        first: that is compared with.
        second: the other.
        left_out: what could not be compared, and why.
    """

    first: Audited
    second: Audited
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """All that can be compared."""
        parts: Sequence[Callable[[], Iterator[Row]]] = (self._need, self._patches, self._hold, self._fields)
        return [row for part in parts for row in part()]

    def _missing(self, part: str) -> bool:
        """Whether one lacks a part; says why."""
        for one in (self.first, self.second):
            if part not in one.found.parts:
                why = one.found.left_out.get(part, "it is not in the folder.")
                self.left_out.append((part, f"{one.label} lacks it: {why}"))
                return True
        return False

    def _other_score(self, part: str) -> bool:
        a, b = self.first.found.measured, self.second.found.measured
        if a.name != b.name:
            self.left_out.append((part, f"measured in {a.label} and in {b.label}; audit both with the same --score."))
        return a.name != b.name

    def _row(self, part: str, what: str, estimates: Both, pair: Pair | None, **more: Any) -> Row:
        difference = unpaired(*estimates) if pair is None else pair.difference
        both = estimates if pair is None else (pair.first, pair.second)
        if self.first.is_same_network(self.second):
            difference = of_itself(difference)
        labels = (self.second.label, self.first.label)
        return Row(*labels, part, what, *both, difference, pair is not None, **more)

    def _scored(self, part: str, what: str, estimates: Both, places: Any, **more: Any) -> Row:
        """A row of the score, or of a loss of it."""
        score = self.first.found.measured
        pair = self._pair(part, estimates, *places)
        return self._row(part, what, estimates, pair, scale=score.scale, unit=score.points.strip(), **more)

    def _pair(self, part: str, estimates: Both, first: Place | None, second: Place | None) -> Pair | None:
        """Picture by picture, if both saw some of the same ones and it is kept what they gave."""
        a, b = (x.need if part == "need" else x.patches for x in (self.first, self.second))
        rows = self.common(part)
        if rows is None or first not in a or second not in b or not _fits(a, rows[0]) or not _fits(b, rows[1]):
            return None
        groups = self._groups(part, rows[0])
        if groups is None and any(e.covers in (GROUPS, GROUPS_AND_DRAWS) for e in estimates):
            return None  # which pictures belong together is not known
        return self._of_tallies((a, first), (b, second), rows, groups)

    def _of_tallies(self, first: At, second: At, rows: tuple[Rows, Rows], groups: Groups) -> Pair | None:
        score, (tallies, place) = self.first.score, first
        tally = tallies[place]
        if not isinstance(tally, Tally):
            both = [[t[p] for p in dict.fromkeys((at, None))] for t, at in (first, second)]
            return paired_sets(both[0], both[1], rows, score, groups) if self.first.names_score else None
        sides = (_side(*first, rows[0], score.direction), _side(*second, rows[1], score.direction))
        bounds = (score.low, score.high) if place is None else score.losses
        return paired(*sides, bounds, counted=tally.varied is None, groups=groups)

    def common(self, part: str) -> tuple[Rows, Rows] | None:
        """Where the pictures that both saw are in either; None if that is not known, or there are fewer than two."""
        seen = [x.pictures(part).get("rows") for x in (self.first, self.second)]
        whole = self.first.fingerprint() == self.second.fingerprint() != ""
        if whole and all(seen):
            _, here, there = np.intersect1d(np.array(seen[0]), np.array(seen[1]), return_indices=True)
            return (here, there) if len(here) > 1 else None
        if not self.first.fingerprint(part) or self.first.fingerprint(part) != self.second.fingerprint(part):
            return None
        tallies = self.first.need if part == "need" else self.first.patches
        n = _length(tallies)
        return (np.arange(n), np.arange(n)) if n > 1 else None

    def _groups(self, part: str, rows: Rows) -> Groups:
        given = self.first.pictures(part).get("groups")
        if not given:
            return None
        found = np.array(given)[rows]
        return None if len(np.unique(found)) == len(found) else found

    def _need(self) -> Iterator[Row]:
        a, b = self.first.found.need, self.second.found.need
        if self._missing("need") or self._other_score("need") or not a or not b:
            return
        score = self.first.found.measured
        if self.first.score.of_intact:
            why = f"{score.phrase} is of each network with itself, so that intact ones have no difference."
            self.left_out.append(("intact score", why))
        else:
            both = (a.intact[0].score, b.intact[0].score)
            yield self._scored("need", f"{score.label} of the intact network", both, (None, None), leads=True)
        if a.reach != b.reach:
            why = f"shuffled {_reach(a.reach)} in {self.first.label}, {_reach(b.reach)} in {self.second.label}."
            self.left_out.append(("need's losses", why))
            return
        yield from self._losses(a.points, b.points)
        yield from self._collapses(a.points, b.points)

    def _losses(self, a: Sequence[Point], b: Sequence[Point]) -> Iterator[Row]:
        for method in dict.fromkeys(p.method for p in a if p.method != GAP_FC):
            here, there = ({p.site: p for p in x if p.method == method and p.drop} for x in (a, b))
            places = [{s: p.depth_share for s, p in x.items()} for x in (here, there)]
            for s, t, how in self._matched(f"loss by {_name(method)}", *places):
                p, q = here[s], there[t]
                yield self._lost(f"{LOST} by {_name(method)}", p, q, how, leads=method == "per-channel")

    def _lost(self, what: str, p: Point, q: Point, how: str, *, leads: bool) -> Row:
        assert p.drop
        assert q.drop
        at = {"sites": (p.site, q.site), "shares": (p.depth_share, q.depth_share), "matched": how}
        places = ((p.method, p.site), (q.method, q.site))
        return self._scored("need", what, (p.drop, q.drop), places, leads=leads, **at)

    def _collapses(self, a: Sequence[Point], b: Sequence[Point]) -> Iterator[Row]:
        found = [[p for p in x if p.method == GAP_FC and p.drop] for x in (a, b)]
        for one, points in zip((self.first, self.second), found, strict=True):
            if not points:
                self.left_out.append(("mildest collapse", f"{one.label} was collapsed nowhere."))
                return
        p, q = (min(x, key=lambda p: p.drop.mean if p.drop else 0.0) for x in found)
        yield self._lost(f"{LOST} by the mildest collapse ({LABELS[GAP_FC]})", p, q, BEST, leads=True)

    def _matched(self, what: str, here: Mapping[str, float], there: Mapping[str, float]) -> list[tuple[str, str, str]]:
        pairs = matched(here, there)
        for one, names in (
            (self.first, set(here) - {p[0] for p in pairs}),
            (self.second, set(there) - {p[1] for p in pairs}),
        ):
            if names:
                why = f"{one.label} alone: the other has no place left within {100 * NEAR:.0f} points of the depth."
                self.left_out.append((f"{what}, {', '.join(sorted(names))}", why))
        return pairs

    def _patches(self) -> Iterator[Row]:
        a, b = self.first.found.patches, self.second.found.patches
        if self._missing(PATCHES) or self._other_score(PATCHES) or not a or not b:
            return
        there = {r.grid: r for r in b.cut}
        for r in a.cut:
            if r.grid in there and r.drop and (other := there[r.grid].drop):
                what = f"{LOST} by {r.grid} x {r.grid} patches that change places"
                place = (PATCHES, str(r.grid))
                yield self._scored(PATCHES, what, (r.drop, other), (place, place))
        for grid in sorted({r.grid for r in a.cut} ^ set(there)):
            self.left_out.append((f"{grid} x {grid} patches", "they were asked of one network alone."))

    def _hold(self) -> Iterator[Row]:
        a, b = self.first.found.hold, self.second.found.hold
        if self._missing("hold") or not a or not b:
            return
        for target in dict.fromkeys(r.target for r in a.rows):
            p, q = (_best(x, target) for x in (a, b))
            if p is None or q is None:
                self.left_out.append((f"SPC of {target}", "it was not read out of both."))
            elif p.size != q.size:
                why = f"maps were compared at {p.size} px in {self.first.label}, at {q.size} px in {self.second.label}."
                self.left_out.append((f"SPC of {target}", why))
            else:
                yield self._held((a, b), p, q)

    def _held(self, holds: tuple[ReadoutResult, ReadoutResult], p: Read, q: Read) -> Row:
        what = f"SPC of {HELD_NAMES.get(p.target, p.target)}, best site"
        at = {"sites": (p.site, q.site), "shares": (p.depth_share, q.depth_share), "matched": BEST}
        pair = self._pair_held((p.target, p.site), (q.target, q.site))
        controls = tuple(_untrained(x, r) for x, r in zip(holds, (p, q), strict=True))
        row = self._row("hold", what, (p.spc, q.spc), pair, unit="SPC", controls=controls, leads=True, **at)
        here, there = (one.fitted or 0 for one in (self.first, self.second))
        if (there - here) * row.difference.mean <= 0:
            return row
        why = f"read out of {here} pictures in {self.first.label}, of {there} in {self.second.label}, and more help."
        self.left_out.append((f"{what}: in the table, not in the sentences", why))
        return replace(row, leads=False)

    def _pair_held(self, first: tuple[str, str], second: tuple[str, str]) -> Pair | None:
        """Test pictures are the first of one order, which the seed decides: fewer are the beginning of more."""
        a, b = (x.found.parts["hold"] for x in (self.first, self.second))
        same = _divided(a) == _divided(b)
        here, there = self.first.held.get(first), self.second.held.get(second)
        if not same or here is None or there is None:
            return None
        n = min(len(here), len(there))
        return paired_scores(here[:n], there[:n]) if n > 1 else None

    def _fields(self) -> Iterator[Row]:
        if self._missing("fields"):
            return
        a, b = (x.found.parts["fields"] for x in (self.first, self.second))
        if a.get("size") != b.get("size"):
            why = f"pictures were {_size(a)} px in {self.first.label}, {_size(b)} px in {self.second.label}."
            self.left_out.append(("receptive fields", why))
            return
        here, there = ({f["site"]: f for f in x["fields"]} for x in (a, b))
        shares = [{s["name"]: s["depth_share"] for s in x.found.sites} for x in (self.first, self.second)]
        places = [{n: s[n] for n in f if n in s} for f, s in zip((here, there), shares, strict=True)]
        for s, t, how in self._matched("receptive field", *places):
            both = (Estimate(**here[s]["r50"]), Estimate(**there[t]["r50"]))
            at = {"sites": (s, t), "shares": (places[0][s], places[1][t]), "matched": how}
            yield self._row("fields", "radius that holds half of what is seen", both, None, unit="px", digits=1, **at)


def _name(method: str) -> str:
    return LABELS.get(method, f"shuffling ({method})")


def _reach(reach: str | int) -> str:
    return "from each place to the end" if reach == "from" else f"at {reach} place{'s' * (reach != 1)} alone"


def _size(fields: Mapping[str, Any]) -> str:
    return " x ".join(str(s) for s in fields.get("size", ())) or "of another size"


def _length(tallies: Tallies) -> int:
    """Pictures of an intact network's tally."""
    tally = tallies.get(None)
    return 0 if tally is None else len(tally.hits) if isinstance(tally, Tally) else len(tally)


def _fits(tallies: Tallies, rows: Rows) -> bool:
    return int(rows.max()) < _length(tallies)


def _side(tallies: Tallies, place: Place | None, rows: Rows, direction: int) -> Side:
    """The intact network's values, or what was lost at a place."""
    tally, intact = tallies[place], tallies[None]
    assert isinstance(tally, Tally)
    assert isinstance(intact, Tally)
    return side_of(tally, rows) if place is None else side_of(tally, rows, intact, direction)


def _best(hold: ReadoutResult, target: str) -> Read | None:
    """The site out of which a target is read best."""
    rows = [r for r in hold.of(target=target, inputs="pictures") if r.site not in ("all", "rgb")]
    return max(rows, key=lambda r: r.spc.mean, default=None)


def _divided(hold: Mapping[str, Any]) -> Any:
    """What decides which pictures are tested on, and in which order."""
    prints = [hold["data"].get(part, {}).get("fingerprints") for part in ("fit", "test")]
    return prints, hold["settings"].get("seed")


def _untrained(hold: ReadoutResult, row: Read) -> float | None:
    found = hold.of("untrained", target=row.target, inputs="pictures", site=row.site)
    return found[0].spc.mean if found else None


def matched(here: Mapping[str, float], there: Mapping[str, float]) -> list[tuple[str, str, str]]:
    """Places of two networks that are compared: of one name at one depth, else the nearest in depth, each once.

    Args:
        here: depth shares by site.
        there: of the other network.

    Returns:
        (site, other site, how), the last of the network first.
    """
    same = [s for s in here if abs(here[s] - there.get(s, np.inf)) < 1e-9]
    gaps = sorted(
        (abs(x - y), s, t) for s, x in here.items() for t, y in there.items() if s not in same and t not in same
    )
    pairs, left, right = [(s, s, SAME_SITE) for s in same], set(same), set(same)
    for gap, s, t in gaps:
        if gap <= NEAR and s not in left and t not in right:
            pairs.append((s, t, SAME_DEPTH))
            left.add(s)
            right.add(t)
    return sorted(pairs, key=lambda p: here[p[0]])
