"""A worker that arrives in a process again is the one that is there, with what it prepared."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from whatwhere.hold.studies.location_worker import LocationWorker
from whatwhere.hold.studies.pattern_plan import PatternWorker
from whatwhere.hold.studies.readout_worker import ReadoutWorker
from whatwhere.lab.once import PreparedOnce
from whatwhere.need.studies.curve_worker import CurveWorker


@dataclass(frozen=True)
class Counting(PreparedOnce):
    start: int
    step: int = field(default=1, kw_only=True)

    @cached_property
    def prepared(self) -> list[int]:
        return [self.start]

    def __call__(self, config: Mapping[str, Any]) -> dict[str, Any]:
        self.prepared.append(self.prepared[-1] + self.step)
        return {"seen": list(self.prepared)}


def arrived(worker: Counting) -> Counting:
    return pickle.loads(pickle.dumps(worker))


def test_equal_workers_share_what_was_prepared():
    first = arrived(Counting(5, step=2))
    assert first({}) == {"seen": [5, 7]}
    assert arrived(Counting(5, step=2))({}) == {"seen": [5, 7, 9]}
    assert arrived(Counting(5, step=3))({}) == {"seen": [5, 8]}


def test_what_was_prepared_is_not_sent():
    worker = Counting(0)
    before = pickle.dumps(worker)
    worker({})
    assert pickle.dumps(worker) == before


@pytest.mark.parametrize("kind", [CurveWorker, LocationWorker, PatternWorker, ReadoutWorker])
def test_every_worker_that_prepares_does_so_in_this_one_way(kind):
    assert issubclass(kind, PreparedOnce)
    assert kind.__reduce__ is PreparedOnce.__reduce__
