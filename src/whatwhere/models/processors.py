"""Hugging Face's image processors as our `Preprocessing`, so far as it can say the same; what it cannot is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whatwhere.errors import InputError
from whatwhere.network import Preprocessing

FILTERS: Mapping[int, tuple[str, str]] = {  # PIL's numbers
    0: ("nearest", ""),
    1: ("bicubic", "its Lanczos filter is replaced by bicubic"),
    2: ("bilinear", ""),
    3: ("bicubic", ""),
}
WARPED = "it distorts a picture to {0} x {1}, here the short side is resized and the centre cropped"
CONVNEXT_CROPS_BELOW = 384  # the rule of transformers' ConvNextImageProcessor
OTHERWISE = {
    "do_flip_channel_order": "takes pictures with their channels in the order BGR",
    "do_thumbnail": "makes thumbnails",
    "do_align_long_axis": "turns pictures",
}


@dataclass(frozen=True)
class Geometry:
    """What is left of a picture.

    Attributes:
        size: (height, width); None is the picture's own.
        crop: share of the resized short side that the crop keeps.
        note: what differs from the processor; "" for nothing.
    """

    size: tuple[int, int] | None
    crop: float = 1.0
    note: str = ""


def preprocessing_of(processor: Any, name: str) -> Preprocessing:
    """The preprocessing that an image processor of transformers' does.

    Args:
        processor: of `AutoImageProcessor`.
        name: of the network, for the record.

    Raises:
        InputError: for a processor that does what no `Preprocessing` says.
    """
    for option, does in OTHERWISE.items():
        if getattr(processor, option, False):
            raise _refused(name, f"{does} ({option}=true)")
    geometry = geometry_of(processor, name)
    interpolation, replaced = FILTERS.get(_number(processor), ("bilinear", "its filter is replaced by bilinear"))
    mean, std = _scaling(processor)
    notes = "".join(f"; {note}" for note in (geometry.note, replaced) if note)
    return Preprocessing(
        mean=mean,
        std=std,
        size=geometry.size,
        crop_pct=geometry.crop,
        interpolation=interpolation,  # type: ignore[arg-type]
        source=f"the image processor of {name} ({type(processor).__name__}){notes}",
    )


def _number(processor: Any) -> int:
    number = getattr(processor, "resample", None)
    return 2 if number is None else int(number)


def geometry_of(processor: Any, name: str) -> Geometry:
    """How a processor resizes and crops.

    Args:
        processor: of `AutoImageProcessor`.
        name: of the network, for an error.

    Raises:
        InputError: for a size that depends on the long side or on a number of pixels.
    """
    size = dict(getattr(processor, "size", None) or {}) if getattr(processor, "do_resize", True) else {}
    crop = dict(getattr(processor, "crop_size", None) or {}) if getattr(processor, "do_center_crop", False) else {}
    kept = (crop["height"], crop["width"]) if {"height", "width"} <= crop.keys() else None
    if not size:
        return Geometry(kept)
    if {"height", "width"} <= size.keys():
        return _of_a_fixed_size((size["height"], size["width"]), kept)
    if size.keys() != {"shortest_edge"}:
        raise _refused(name, f"resizes pictures by {size}")
    return _of_the_short_side(size["shortest_edge"], kept, getattr(processor, "crop_pct", None))


def _of_a_fixed_size(size: tuple[int, int], kept: tuple[int, int] | None) -> Geometry:
    note = WARPED.format(*size)
    return Geometry(size, note=note) if kept is None else Geometry(kept, _share(kept, min(size)), note)


def _of_the_short_side(short: int, kept: tuple[int, int] | None, convnext: float | None) -> Geometry:
    square = (short, short)
    if convnext is not None and kept is None:
        if short >= CONVNEXT_CROPS_BELOW:
            return Geometry(square, note=WARPED.format(*square))
        return Geometry(square, short / int(short / convnext))
    if kept is None:
        return Geometry(square, note="it keeps all of a picture that is not square, here the centre is cropped")
    return Geometry(kept, _share(kept, short))


def _share(kept: tuple[int, int], short: int) -> float:
    """The share of the short side that a crop keeps; a crop that is larger would pad with black."""
    return min(1.0, min(kept) / short)


def _scaling(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation for pictures scaled to 0..1, whatever the processor scales them to."""
    does = getattr(processor, "do_rescale", True)
    unit = 255 * (float(getattr(processor, "rescale_factor", 1 / 255)) if does else 1.0)
    offset = 1.0 if does and getattr(processor, "rescale_offset", False) else 0.0
    normalises = getattr(processor, "do_normalize", True)
    mean = tuple(processor.image_mean) if normalises else (0.0,)
    std = tuple(processor.image_std) if normalises else (1.0,)
    if getattr(processor, "include_top", False):  # EfficientNet's divides by the deviation once more
        std = tuple(s * s for s in std)
    exact = 1.0 if abs(unit - 1) < 1e-6 else unit  # 1/255 is written with few digits
    return tuple((m + offset) / exact for m in mean), tuple(s / exact for s in std)


def _refused(name: str, does: str) -> InputError:
    return InputError(
        f"model={name!r}: its image processor {does}, and no whatwhere.Preprocessing says that. Load the network in "
        "Python and give ww.Network(module, ww.Preprocessing(mean=…, std=…, size=…)), with pictures prepared alike."
    )
