"""An engine that runs in this process what another process would get: the worker's bytes, and nothing of this one.

A process takes ten seconds to start where others run beside it. Real ones are in `tests/lab/test_engines.py`,
and on demand in `test_factories.py` (a curve) and `test_cost.py`; what a study has to do with them is to send a worker.
"""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finished:
    outcome: Any

    def done(self) -> bool:
        return True

    def result(self) -> Any:
        return self.outcome


class Elsewhere:
    """Calls what comes out of the bytes, each time anew, and sends back what comes out of the result's."""

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Finished:
        there = pickle.loads(pickle.dumps(function))
        return Finished(pickle.loads(pickle.dumps(there(pickle.loads(pickle.dumps(configuration))))))
