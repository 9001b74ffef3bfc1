"""How bright is each quadrant of the pictures? The study: options only, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from whatwhere.lab.options import AnyData
from whatwhere.lab.study import Study


@dataclass(frozen=True)
class Brightness(Study[Any]):
    """Measure the mean brightness of the quadrants of some pictures.

    Attributes:
        data: hf/ID, a folder or digits.
        quadrants: some of top-left, top-right, bottom-left, bottom-right.
        pictures: at most so many.

    Examples:
        $ whatwhere toywing brightness --data digits
        $ whatwhere toywing brightness --data digits --quadrants top-left,bottom-right --pictures 20
    """

    kind: ClassVar[str] = "brightness"
    plan: ClassVar[str] = "toywing.plan:BrightnessPlan"
    result: ClassVar[str] = "toywing.plan:BrightnessResult"

    data: AnyData
    quadrants: tuple[str, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")
    pictures: int = 100
