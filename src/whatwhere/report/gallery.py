"""Small pictures beside each other on a page: maps, photographs, label maps; in as many bytes as there is room for."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 128  # pixels of the longer side of what is kept
SHADES = 64  # of a map: more than the eye tells apart, in a third of the bytes of 256
COLOURS = 128  # of a photograph
ROOM = 600_000  # bytes of one gallery
MARKUP = 300  # bytes around each picture, about


@dataclass(frozen=True)
class Picture:
    """One of them.

    Attributes:
        values: (h, w) a map, NaN where there is nothing; (h, w, 3) bytes a photograph, or label maps in colours.
        caption: below it.
        group: what stands above those that belong together; pictures of one group follow each other.
        alt: what someone who cannot see it must know; the caption if not given.
    """

    values: Any
    caption: str
    group: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Gallery:
    """Small pictures in a grid, each of which can be enlarged.

    >>> maps = [Picture(values, f"predicted, picture {i}", "features.8") for i, values in enumerate(predicted)]
    >>> Report(title, lead, galleries=[Gallery("maps", "Position, read out", maps, limits=(0.0, 1.0))])

    Attributes:
        name: of the figure that shows the same in a file; with a gallery of its name, that one is not on the page.
        title: above it.
        pictures: the most telling first: where the page has no room for all, the last ones are left out; it says so.
        about: how to read it, in a sentence.
        limits: values that are drawn darkest and lightest; None: each map's own least and greatest.
        legend: what colours mean, as `#rrggbb` by name.
    """

    name: str
    title: str
    pictures: Sequence[Picture]
    about: str = ""
    limits: tuple[float, float] | None = None
    legend: Mapping[str, str] = field(default_factory=dict)

    def plain(self, room: int = ROOM) -> dict[str, Any]:
        """What the page shows.

        Args:
            room: bytes for the pictures, at most.
        """
        drawn: list[dict[str, Any]] = []
        for tile in map(self._tile, self.pictures):
            if tile["bytes"] > room:
                break
            room -= tile["bytes"]
            drawn.append(tile)
        return {
            **{name: getattr(self, name) for name in ("name", "title", "about", "legend")},
            "groups": _grouped(drawn),
            "scale": "{:.3g} is dark, {:.3g} is light.".format(*self.limits) if self.limits else "",
            "left_out": _left_out(len(self.pictures) - len(drawn), len(self.pictures)),
            "bytes": sum(tile["bytes"] for tile in drawn),
        }

    def _tile(self, picture: Picture) -> dict[str, Any]:
        values = np.asarray(picture.values)
        if values.ndim == 2:
            content, drawn = _map(values.astype(np.float64), self.limits)
        else:
            content, drawn = _photograph(values), ""
        source = "data:image/png;base64," + base64.b64encode(content).decode()
        blocky = max(values.shape[:2]) <= SIDE  # its pixels are its values
        said = {"caption": picture.caption, "group": picture.group, "alt": picture.alt or picture.caption}
        size = MARKUP + len(source) + sum(len(html.escape(text).encode()) for text in said.values())
        return {**said, "source": source, "shades": drawn, "blocky": blocky, "bytes": size}


def fitting(galleries: Sequence[Gallery], room: int) -> list[dict[str, Any]]:
    """What a page shows of its galleries: each takes an equal part of the room that is left.

    Args:
        galleries: in their order.
        room: bytes for all pictures together.
    """
    shown: list[dict[str, Any]] = []
    for i, gallery in enumerate(galleries):
        shown.append(gallery.plain(min(ROOM, max(0, room) // (len(galleries) - i))))
        room -= shown[-1]["bytes"]
    return shown


def _grouped(tiles: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for tile in tiles:
        groups.setdefault(tile["group"], []).append(tile)
    return list(groups.items())


def _left_out(lacking: int, total: int) -> str:
    verb = "is" if lacking == 1 else "are"
    return f"{lacking} of {total} pictures {verb} left out: this page has no room for more." if lacking else ""


def _map(values: NDArray[np.float64], limits: tuple[float, float] | None) -> tuple[bytes, str]:
    """A map in shades, transparent where there is nothing, and what its own darkest and lightest shade are."""
    known = np.isfinite(values)
    if not known.any():
        return _in_shades(np.full(values.shape, SHADES, np.uint8)), "nothing was measured"
    low, high = limits or (float(values[known].min()), float(values[known].max()))
    share = np.clip((np.where(known, values, low) - low) / ((high - low) or 1.0), 0, 1)
    shades = np.where(known, np.rint(share * (SHADES - 1)), SHADES).astype(np.uint8)
    said = "" if limits else f"{low:.3g} dark, {high:.3g} light" if high > low else f"{low:.3g} everywhere"
    return _in_shades(shades), said


def _in_shades(shades: NDArray[np.uint8]) -> bytes:
    import matplotlib as mpl
    from PIL import Image

    drawn = Image.fromarray(shades, "P")
    palette = (mpl.colormaps["cividis"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8)
    drawn.putpalette(bytes(palette) + b"\xff\xff\xff")
    return _png(_shrunk(drawn), transparency=SHADES)


def _photograph(values: NDArray[Any]) -> bytes:
    """A picture in few colours; one that has few, such as a label map, in its own."""
    from PIL import Image

    drawn = Image.fromarray(np.ascontiguousarray(values, np.uint8), "RGB")
    few = drawn.getcolors(COLOURS) is not None
    smaller = _shrunk(drawn, smooth=not few)
    return _png(smaller.quantize(COLOURS, dither=Image.Dither.NONE if few else Image.Dither.FLOYDSTEINBERG))


def _shrunk(drawn: Any, *, smooth: bool = False) -> Any:
    from PIL import Image

    longest = max(drawn.size)
    if longest <= SIDE:
        return drawn
    size = [max(1, round(n * SIDE / longest)) for n in drawn.size]
    return drawn.resize(size, Image.Resampling.BOX if smooth else Image.Resampling.NEAREST)


def _png(drawn: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", optimize=True, **options)
    return buffer.getvalue()
