"""The audit's cells: one for each part. What fits into the time is known once the network's speed is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from whatwhere.audits.asked import ASK, CHECK, PARTS, SPEED, Asked, budget_of, judged_words, words_of
from whatwhere.audits.result import AuditResult
from whatwhere.audits.study import Audit
from whatwhere.audits.verdict import UNASKED
from whatwhere.errors import InputError
from whatwhere.fingerprints import architecture, fingerprint
from whatwhere.lab.cells import Cell
from whatwhere.lab.options import as_tuple
from whatwhere.lab.rows import checked_counts, checked_names
from whatwhere.lab.study import Finished, Plan, Run, Worker
from whatwhere.models.weights import random_weights
from whatwhere.need.shuffling import check_seed
from whatwhere.need.studies.scored import described, score_of

ASKED_NOT = f"{UNASKED} (--without)."
TIMED = Cell({"part": SPEED}, "speed", cost=0.5)
COSTS = {"check": 0.5, "need": 5.0, "hold": 3.0}  # of the parts, for the progress bar; of others 1


class AuditPlan(Plan[Audit, AuditResult]):
    """A cell is a part.

    Raises:
        InputError: for options that cannot work.
    """

    title = "audit"

    def __init__(self, study: Audit) -> None:
        super().__init__(study)
        self.without = checked_names("without", as_tuple(study.without), PARTS) if study.without else ()
        minutes = study.minutes
        if not isinstance(minutes, int | float) or isinstance(minutes, bool) or not 0 < minutes < math.inf:
            raise InputError(f"minutes={minutes!r}: give a time above 0, such as 5.")
        check_seed(study.seed)
        if study.epochs is not None:
            checked_counts(epochs=study.epochs)
            if not study.train:
                raise InputError(f"epochs={study.epochs}: nothing is trained; give --train true with it.")

    @cached_property
    def asked(self) -> Asked:
        """The network and its pictures, for what needs no folder."""
        return Asked(self.study, Run())

    @property
    def measured(self) -> list[Any]:
        """The splits that its numbers come from."""
        return [self.asked.split]

    def shared(self) -> Mapping[str, Any]:
        """The network with its weights, the pictures, and what decides how much is asked."""
        net, study = self.asked.net, self.study
        score = score_of(study.score, self.asked.split, net)
        return {
            "network": net.name,
            "weights": fingerprint(net.module),
            "layers": architecture(net.module),
            "preprocessing": net.preprocessing.to_dict(),
            "data": self.asked.split.fingerprint,
            "score": {**described(score), "name": score.name},
            "minutes": float(study.minutes),
            "within": study.within,
            "seed": study.seed,
            **({"train": True, "epochs": study.epochs} if study.train else {}),
        }

    def check(self, how: Run) -> None:
        """Find the places that are asked: a network without any is refused before anything is measured.

        Raises:
            InputError: for such a network, or pictures too small for it.
        """
        _ = self.asked.places

    def cells(self, done: Finished) -> Iterable[Cell]:
        """The speed and the known answers; then every part."""
        if TIMED not in done:
            return [TIMED]
        return [TIMED, *(self._cell(part, done[TIMED]) for part in PARTS if part not in self.without)]

    def _cell(self, part: str, speed: Mapping[str, Any]) -> Cell:
        """With the speed, from which follows how much is asked."""
        timed = {} if part == CHECK else {"speed": dict(speed)}
        return Cell({"part": part, **timed}, part, cost=COSTS.get(part, 1.0))

    def worker(self, how: Run) -> AuditWorker:
        """Asks one part."""
        return AuditWorker(self.study, replace(how, engine=None, workers=0))  # a part's own cells run where it runs

    def fold(self, done: Finished) -> AuditResult:
        """The parts that are finished, and why the others are not."""
        found = {config["part"]: result for config, result in done}
        left = {part: ASKED_NOT for part in self.without if part not in found}
        left |= {part: str(plain["left_out"]) for part, plain in found.items() if "left_out" in plain}
        net, split = self.asked.net, self.asked.split
        score = score_of(self.study.score, split, net)
        return AuditResult(
            network=net.name,
            data=self.study.data_source.given.describe(),
            preprocessing=net.preprocessing.to_dict(),
            settings={
                "minutes": self.study.minutes,
                "within": self.study.within,
                "seed": self.study.seed,
                "pictures": len(split),
                **({"words": words_of(self.study), "judged": judged_words(self.study)} if self.study.named else {}),
            },
            sites=tuple(_site(s) for s in self.asked.places),
            parts={part: plain for part, plain in found.items() if part not in left and part != SPEED},
            left_out=left,
            speed=found.get(SPEED, {}),
            score=described(score),
            notes=tuple(dict.fromkeys([*random_weights(net), *done.notes(), *_notes(found)])),
        )


def _notes(found: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """What the parts' own pages say must be known."""
    return (note for plain in found.values() for note in plain.get("notes", ()))


def _site(site: Any) -> dict[str, Any]:
    return {"name": site.name, "depth_share": site.depth_share, "kind": site.kind, "shape": list(site.shape or ())}


@dataclass(frozen=True)
class AuditWorker(Worker):
    """Asks one part; what cannot be asked says why instead.

    Attributes:
        study: the options.
        how: where it runs.
    """

    study: Audit
    how: Run

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Ask."""
        part = config["part"]
        asked = Asked(self.study, self.how)
        try:
            budget = budget_of(asked, config["speed"]) if "speed" in config else None
            return ASK[part](asked, budget)
        except InputError as error:
            return {"left_out": str(error)}
        except Exception as error:  # one part must not take the others along; the page names it
            what = f"{type(error).__name__}: {error}"
            return {"left_out": f"it failed, which is a fault of whatwhere: {what}. Another --out asks again."}
