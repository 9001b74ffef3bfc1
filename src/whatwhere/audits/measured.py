"""What an audit measured: every part as plain values, and as the result of its own study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from whatwhere.hold.studies.readout_result import ReadoutResult
from whatwhere.lab.result import SCHEMA_VERSION, Result
from whatwhere.need.studies.patches_result import PatchesResult
from whatwhere.need.studies.result import NeedResult
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.scores.classes import ACCURACY
from whatwhere.scores.score import Score
from whatwhere.use.studies.compare_result import CompareResult


@dataclass(frozen=True)
class Measured(Result):
    """What each part found.

    Attributes:
        network: its name.
        data: names, sizes, fingerprints.
        preprocessing: of the network's input.
        settings: minutes, seed, ...
        sites: the places that could be asked: name, depth_share, kind, shape.
        parts: by name, what each found, as plain values.
        left_out: by name, why a part is missing.
        speed: seconds of a picture, and its operations.
        score: name, label, unit and direction of what was measured; empty: accuracy.
        notes: what the reader must know.
        provenance: versions, hardware, command, seconds.
    """

    kind: ClassVar[str] = "audit"

    network: str
    data: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    settings: Mapping[str, Any]
    sites: tuple[Mapping[str, Any], ...]
    parts: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, str] = field(default_factory=dict)
    speed: Mapping[str, Any] = field(default_factory=dict)
    score: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def measured(self) -> Score:
        """What was measured."""
        return Score(**self.score) if self.score else ACCURACY

    @property
    def need(self) -> NeedResult | None:
        """The curve, if it was measured."""
        return NeedResult.from_dict(self.parts["need"]) if "need" in self.parts else None

    @property
    def patches(self) -> PatchesResult | None:
        """The shuffled picture, if it was measured."""
        return PatchesResult.from_dict(self.parts["patches"]) if "patches" in self.parts else None

    @property
    def hold(self) -> ReadoutResult | None:
        """Position read out, if it was measured."""
        return ReadoutResult.from_dict(self.parts["hold"]) if "hold" in self.parts else None

    @property
    def trained(self) -> dict[str, CompareResult | SayResult]:
        """What was trained, by part."""
        kinds: dict[str, type[CompareResult | SayResult]] = {"use": CompareResult, "say": SayResult}
        found = {name: self.parts.get(name, {}).get("trained") for name in kinds}
        return {name: kinds[name].from_dict(plain) for name, plain in found.items() if plain}

    @property
    def known(self) -> list[Mapping[str, Any]]:
        """The tool's answers to what is known."""
        return list(self.parts.get("check", {}).get("known", ()))
