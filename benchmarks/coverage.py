"""How often does a 95 % interval hold the truth? Every kind that whatwhere prints, at the sizes that a user has.

    python benchmarks/coverage.py                         # all cases, a few minutes on one core
    python benchmarks/coverage.py --only "mIoU" --times 4000 --out /tmp/coverage

Each case draws data whose truth is known, has the package compute the interval, and counts. Every case has a seed of
its own, so that cases can be added or run alone without changing others. Finished cases are kept in coverage.json
after each one, and are not run again; `--again` starts over. coverage.md is the table. What a case draws is in
coverage_trials.py.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coverage_trials import (
    EVEN,
    SCARCE,
    Trial,
    answered,
    auroc_difference,
    auroc_of,
    counts_only,
    miou,
    miou_change,
    miou_change_over_seeds,
    networks_scores,
    one_draw,
    over_seeds,
    own_pairs,
    own_pictures,
    paired,
    pixel_accuracy,
    rare,
    same_rare,
    scores,
    share,
    share_lost,
    shuffled,
    these_pictures,
)
from whatwhere.files import read_json, write_json, write_text

HELD, LEAST, MOST = 0.95, 0.93, 0.97


@dataclass(frozen=True)
class Case:
    """One kind of interval at one size.

    Attributes:
        kind: what the interval is of.
        size: what it rests on.
        truth: how the data are drawn.
        trial: draws data, and gives both ends of the interval and the truth.
    """

    kind: str
    size: str
    truth: str
    trial: Trial

    @property
    def name(self) -> str:
        """All that tells it from others."""
        return f"{self.kind} | {self.size} | {self.truth}"

    def run(self, times: int) -> dict[str, Any]:
        """How often the interval held the truth, and how wide it was."""
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big"))
        low, high, truth = np.array([self.trial(rng) for _ in range(times)]).T
        held = float(np.mean((low <= truth) & (truth <= high)))
        return {
            "kind": self.kind,
            "size": self.size,
            "truth": self.truth,
            "times": times,
            "held": held,
            "width": float(np.median(high - low)),
        }


def of_pictures() -> Iterator[Case]:
    for n in (10, 50, 200, 2000):
        for p in (0.7, 0.98, 1.5 / n):
            yield Case("accuracy of one network", f"{n} pictures", f"{100 * p:.3g} %", share(n, p))
    for n in (50, 200, 2000, 10_000):
        yield Case("paired difference", f"{n} pictures", "4 points", paired(1, n, 0.2, 0.0))
        yield Case("paired difference", f"{n} pictures", "none", paired(1, n, 0.0, 0.0))
        for k in (1, 5):
            yield Case("paired difference, rare changes", f"{n} pictures", f"{k} lost on average", rare(1, n, k))
    for n in (10, 40, 200):
        for tail, text in ((4.0, "few badly read"), (1.0, "long tail")):
            yield Case("SPC over pictures", f"{n} pictures", text, scores(n, tail))


def of_draws() -> Iterator[Case]:
    for batches in (1, 2, 3, 4, 8):
        for draws in (2, 3, 10):
            for shared in (0.0, 0.1, 0.3):
                size = f"{batches} x 128 pictures, {draws} draws"
                moved = f"a draw moves a batch by {100 * shared * 0.27:.1f} points"
                yield Case("accuracy under a shuffle", size, moved, shuffled(batches, 128, draws, shared))
                yield Case("paired drop under a shuffle", size, moved, shuffled(batches, 128, draws, shared, drop=True))
    for n in (128, 1000):
        yield Case("accuracy under one draw, for this draw", f"{n} pictures", "8 points", one_draw(n, 0.3))


def of_seeds() -> Iterator[Case]:
    for seeds in (2, 3, 5):
        for n in (200, 2000, 10_000):
            for spread in (0.0, 0.003, 0.01, 0.03):
                size, truth = f"{seeds} seeds, {n} pictures", f"seeds vary by {100 * spread:g} points"
                yield Case("accuracy over seeds", size, f"75 %, {truth}", over_seeds(seeds, n, 0.8, spread))
                yield Case("paired difference over seeds", size, f"4 points, {truth}", paired(seeds, n, 0.2, spread))
    for seeds in (2, 3, 5):
        for n in (200, 2000):
            size = f"{seeds} seeds, {n} pictures"
            yield Case("accuracy over seeds", size, "96 %, seeds vary by 0.3 points", over_seeds(seeds, n, 2.0, 0.003))
            yield Case("paired difference over seeds, rare changes", size, "3 lost each", rare(seeds, n, 3))
            yield Case("paired difference over seeds, rare changes", size, "the same 3 lost", same_rare(seeds, n, 3))
            yield Case("share lost, difference over seeds", size, "seeds vary by 1 point", share_lost(seeds, n, 0.01))
            for spread in (0.0, 0.01, 0.03):
                truth = f"seeds vary by {100 * spread:g} points"
                kind = "over seeds with pictures of their own"
                yield Case(f"accuracy {kind}", size, f"75 %, {truth}", own_pictures(seeds, n, 0.8, spread))
                yield Case(f"paired difference {kind}", size, truth, own_pairs(seeds, n, spread))
                kind = "accuracy over seeds, only counts known"
                yield Case(kind, size, f"75 %, {truth}", counts_only(seeds, n, 0.8, spread))
                if spread:
                    kind = "accuracy over seeds, for these pictures (`fixed`)"
                    yield Case(kind, size, f"75 %, {truth}", these_pictures(seeds, n, 0.8, spread))
            yield Case("accuracy over seeds with pictures of their own", size, "99 %", own_pictures(seeds, n, 2.6, 0.0))


def of_networks() -> Iterator[Case]:
    for networks in (2, 3, 5):
        for n in (10, 40, 200):
            for spread in (0.0, 0.02, 0.1):
                size, truth = f"{networks} networks, {n} pictures", f"networks vary by {spread:g}"
                yield Case("SPC over untrained networks", size, truth, networks_scores(networks, n, spread))
                above = networks_scores(networks, n, spread, above=True)
                yield Case("SPC above untrained networks", size, truth, above)


def of_groups() -> Iterator[Case]:
    for n in (3, 5, 10, 25, 50):
        for alike, text in ((EVEN, "every class in most segments"), (SCARCE, "some classes in few segments")):
            yield Case("mIoU", f"{n} segments", text, miou(n, alike))
            yield Case("pixel accuracy", f"{n} segments", text, pixel_accuracy(n, alike))
            yield Case("paired change of mIoU", f"{n} segments", f"a gain, {text}", miou_change(n, alike, 0.15))
            yield Case("paired change of mIoU", f"{n} segments", f"none, {text}", miou_change(n, alike, 0.0))
        for seeds in (2, 3) if 3 < n < 50 else ():
            for noise in (0.0, 0.1):
                size, truth = f"{seeds} seeds, {n} segments", f"margins of seeds vary by {noise:g}"
                yield Case("paired change of mIoU, over seeds", size, truth, miou_change_over_seeds(n, seeds, noise))
        yield Case("AUROC", f"{n} segments", "0.7", auroc_of(n))
        yield Case("AUROC difference", f"{n} segments", "0.03", auroc_difference(n))
        for mean in (0.6, 0.1, 0.05, 0.01):
            yield Case("coverage at a threshold", f"{n} segments", f"{100 * mean:g} %", answered(n, mean, 10))
        yield Case("accuracy of what is answered", f"{n} segments", "99 %, alike", answered(n, 0.99, 300))
        yield Case("accuracy of what is answered", f"{n} segments", "99 %, mistakes in few", answered(n, 0.99, 20))


def cases() -> list[Case]:
    return [*of_pictures(), *of_draws(), *of_seeds(), *of_networks(), *of_groups()]


def table(found: Sequence[dict[str, Any]]) -> str:
    """By kind: its cases, and where coverage is outside of 93 to 97 %."""
    times = found[0]["times"]
    lines = [
        "# Coverage of 95 % intervals",
        "",
        "`python benchmarks/coverage.py` writes this table. *Held* is how often the interval held the truth; two",
        f"standard errors of {times:,} repetitions are {200 * math.sqrt(HELD * (1 - HELD) / times):.1f} points.",
        "**less**: under 93 %; more: over 97 %. *Width* is the median, in points (of an SPC or AUROC, in hundredths).",
    ]
    for kind in dict.fromkeys(f["kind"] for f in found):
        own = [f for f in found if f["kind"] == kind]
        lines += ["", f"## {kind[0].upper()}{kind[1:]}", "", _range(own), ""]
        lines += ["| size | truth | held % | width | |", "|---|---|---|---|---|"]
        for f in own:
            word = "**less**" if f["held"] < LEAST else "more" if f["held"] > MOST else ""
            lines.append(f"| {f['size']} | {f['truth']} | {100 * f['held']:.1f} | {100 * f['width']:.2f} | {word} |")
    return "\n".join(lines) + "\n"


def _range(own: Sequence[dict[str, Any]]) -> str:
    held = [100 * f["held"] for f in own]
    return f"{len(own)} cases: {min(held):.1f} to {max(held):.1f} %, median {np.median(held):.1f} %."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000, help="repetitions of each case")
    parser.add_argument("--only", default="", help="only kinds whose name holds this")
    parser.add_argument("--again", action="store_true", help="run finished cases again")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    given = parser.parse_args()
    file = given.out / "coverage.json"
    kept: dict[str, Any] = read_json(file) if file.exists() and not given.again else {}
    every = cases()
    for case in every:
        if given.only in case.kind and kept.get(case.name, {}).get("times") != given.times:
            kept[case.name] = case.run(given.times)
            write_json(file, kept)
            print(f"{100 * kept[case.name]['held']:5.1f} %  {case.name}", flush=True)
    found = [kept[c.name] for c in every if c.name in kept]
    write_json(file, {c.name: kept[c.name] for c in every if c.name in kept})
    write_text(given.out / "coverage.md", table(found))


if __name__ == "__main__":
    main()
