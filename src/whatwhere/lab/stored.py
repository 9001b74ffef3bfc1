"""Results of any study, read back by the kind that their `result.json` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.studies.bottleneck.result import BottleneckResult
from whatwhere.studies.demo import DemoResult
from whatwhere.studies.dependency.result import DependencyResult
from whatwhere.studies.position.location import LocationResult
from whatwhere.studies.position.pattern_study import PatternResult
from whatwhere.studies.position.red_green import RedGreenResult
from whatwhere.studies.position.result import PositionResult
from whatwhere.studies.recalibration.joint_result import JointResult
from whatwhere.studies.recalibration.study import RecalibrationResult

KINDS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    BottleneckResult.kind: BottleneckResult.from_dict,
    "demo": DemoResult.from_dict,
    "dependency": DependencyResult.from_dict,
    "position": PositionResult.from_dict,
    "padding pattern": PatternResult.from_dict,
    RedGreenResult.kind: RedGreenResult.from_dict,
    LocationResult.kind: LocationResult.from_dict,
    RecalibrationResult.kind: RecalibrationResult.from_dict,
    JointResult.kind: JointResult.from_dict,
}


class Result(Protocol):
    """What every result can do."""

    def save(self, folder: Path) -> Path:
        """Write it with its table, figures and page; returns the page."""


def load_result(folder: Path) -> Result:
    """Any result of this package.

    Raises:
        InputError: for a folder without a result, or a kind nobody knows.
    """
    if not (folder / "result.json").is_file():
        deeper = [path.parent.name for path in sorted(folder.glob("*/result.json"))]
        hint = f"give one of {', '.join(deeper)} in it" if deeper else "give --out of a finished measurement"
        unfinished = "; the study there is not finished: run its command again" if (folder / "cells").is_dir() else ""
        raise InputError(f"folder={str(folder)!r} holds no result.json{unfinished}; {hint}.")
    plain = read_json(folder / "result.json")
    kind = plain.get("kind")
    if kind not in KINDS:
        raise InputError(f"{folder / 'result.json'} has kind {kind!r}; known are {', '.join(KINDS)}.")
    return KINDS[kind](plain)
