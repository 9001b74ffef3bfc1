"""What is left out unless `WHATWHERE_LARGE=1` is set: the tests of every change have twelve minutes."""

import os
from collections.abc import Iterable
from typing import Any

import pytest

on_demand = pytest.mark.skipif(not os.environ.get("WHATWHERE_LARGE"), reason="WHATWHERE_LARGE=1 runs it")
COSTLY = ("bottlenecks", "byobnet", "nfnet", "efficientnet", "coatnet", "preact", "swin")


def some(names: Iterable[str]) -> list[Any]:
    """Parameters of a test by network; those that take seconds each are run on demand."""
    return [pytest.param(name, marks=on_demand) if name in COSTLY else name for name in names]
