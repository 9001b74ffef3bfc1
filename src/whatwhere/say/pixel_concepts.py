"""Concepts that pixels show by themselves: colour names, simple textures, places in the picture.

They need no annotation, so every pixel of every picture is labelled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from whatwhere.errors import InputError
from whatwhere.say.checked import within

COLOURS = ("black", "blue", "brown", "grey", "green", "orange", "pink", "purple", "red", "white", "yellow")
STEPS = 32  # the mapping from bytes to colour names has 32 steps for each of red, green, blue
TEXTURES = ("smooth", "horizontal", "vertical", "fine")
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "centre", "right")


class Colours:
    """The eleven basic colour names, exactly one for each pixel.

    With value V = max / 255, saturation S = (max - min) / max and hue H in degrees, the first rule that holds:

    1. black: V < 0.2.
    2. no hue (S < 0.15, or S < 0.25 where V < 0.35): white if V >= 0.8, else grey.
    3. by hue: red below 15 and from 345, orange from 15, yellow from 45, green from 70, blue from 170, purple from 260,
       pink from 310 to 345.
    4. of these, orange and yellow are brown where V < 0.6, and red is pink where V >= 0.7 and S < 0.55.

    Deviation: Broden [bau2017] names colours by a table that van de Weijer et al. (2009) learned from photographs, 32
    steps a channel. We do not have that table; the rules above are ours, put into a table of the same steps (a byte
    counts as the middle of its step of 8). The names agree where people do, and differ at the borders.
    """

    names = tuple(f"colour: {name}" for name in COLOURS)

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(11, H, W): 1 for the pixel's colour, 0 for the other ten; `labels` are not used.

        Raises:
            InputError: for a picture that is not of bytes, red, green and blue.
        """
        check_bytes(picture)
        red, green, blue = (picture.to(torch.int64) * STEPS) // 256
        named = colour_table()[(red * STEPS + green) * STEPS + blue]
        return one_hot(named, len(COLOURS))


def check_bytes(picture: Tensor) -> None:
    """Refuse pictures in 0..1, all of which would be black.

    Raises:
        InputError: for a picture that is not (3, H, W), uint8.
    """
    if picture.ndim != 3 or len(picture) != 3 or picture.dtype != torch.uint8:
        raise InputError(f"picture: {picture.dtype}, shape {tuple(picture.shape)}; give (3, H, W), uint8.")


@cache
def colour_table() -> Tensor:
    """The number of the colour name of every step of red, green and blue, (32 * 32 * 32,) uint8."""
    middles = (torch.arange(STEPS) * 256 // STEPS + 128 // STEPS).double() / 255
    return colour_names(torch.cartesian_prod(middles, middles, middles).T)


def colour_names(rgb: Tensor) -> Tensor:
    """The rules of `Colours`.

    Args:
        rgb: (3, ...) in 0..1.

    Returns:
        (...) uint8: places in `COLOURS`.
    """
    hue, saturation, value = hue_saturation_value(rgb)
    hue = hue.round(decimals=6)  # some steps lie on a border exactly
    edges = torch.tensor([15, 45, 70, 170, 260, 310, 345], dtype=hue.dtype)
    by_hue = _numbers("red", "orange", "yellow", "green", "blue", "purple", "pink", "red")
    named = by_hue[torch.bucketize(hue, edges, right=True)]
    warm = (hue >= 15) & (hue < 70)
    pale_red = ((hue < 15) | (hue >= 345)) & (value >= 0.7) & (saturation < 0.55)
    hueless = (saturation < 0.15) | ((saturation < 0.25) & (value < 0.35))
    for where, name in (
        (warm & (value < 0.6), "brown"),
        (pale_red, "pink"),
        (hueless & (value < 0.8), "grey"),
        (hueless & (value >= 0.8), "white"),
        (value < 0.2, "black"),
    ):
        named = torch.where(where, _numbers(name), named)
    return named


def _numbers(*names: str) -> Tensor:
    return torch.tensor([COLOURS.index(name) for name in names], dtype=torch.uint8)


def hue_saturation_value(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in degrees, 0 to 360, saturation and value in 0..1, of (3, ...) in 0..1; hue is 0 for greys."""
    red, green, blue = rgb
    value, span = rgb.amax(0), rgb.amax(0) - rgb.amin(0)
    safe = torch.where(span > 0, span, 1)
    sixths = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    return sixths * 60 * (span > 0), span / torch.where(value > 0, value, 1), value


class Textures:
    """Four simple textures, from the structure tensor of the grey picture: at most one for each pixel.

    The grey value is the mean of red, green and blue in 0..1. Its differences to the next pixel, across x and down y,
    give the tensor J = (xx, xy, yy), each averaged with a Gaussian of standard deviation `window` pixels (where the
    window leaves the picture, over what is inside). With the strength sqrt(xx + yy) and the coherence
    sqrt((xx - yy)^2 + 4 xy^2) / (xx + yy), which is 1 for stripes and 0 where no direction is preferred:

    * smooth: strength < 0.02, five grey levels of 255 from a pixel to the next;
    * fine: not smooth, coherence < 0.5: leaves, gravel, a chequerboard, noise;
    * horizontal: neither, and the stripes (not the change of grey) run within 22.5 degrees of the rows;
    * vertical: the same, of the columns.

    Slanted stripes are none of the four. Deviation: Broden's textures are 47 words given to whole pictures (DTD); these
    four are computed, so that every pixel of any picture has them.
    """

    SMOOTH, COHERENT = 0.02, 0.5
    names = tuple(f"texture: {name}" for name in TEXTURES)

    def __init__(self, window: float = 2.0) -> None:
        """Set the standard deviation of the window, in pixels.

        Raises:
            InputError: for one that is not above 0.
        """
        self.window = within("window", window, 0, math.inf, open_low=True)

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(4, H, W): where each texture is; `labels` are not used.

        Raises:
            InputError: for a picture that is not of bytes, red, green and blue.
        """
        check_bytes(picture)
        xx, xy, yy = structure_tensor(picture, self.window)
        energy, straight, slanted = xx + yy, xx - yy, 2 * xy
        length = (straight.square() + slanted.square()).sqrt()
        smooth = energy < self.SMOOTH**2
        fine = ~smooth & (length < self.COHERENT * energy)
        # Twice the angle of the change has the cosine straight / length; 22.5 degrees become 45.
        along, striped = length * 0.5**0.5, ~(smooth | fine)
        horizontal, vertical = striped & (-straight >= along), striped & (straight >= along)
        return torch.stack([smooth, horizontal, vertical, fine]).to(torch.int8)


def structure_tensor(picture: Tensor, window: float) -> Tensor:
    """Products of the grey value's differences, averaged over a window.

    Args:
        picture: (3, H, W), uint8.
        window: standard deviation of the Gaussian, in pixels.

    Returns:
        (3, H, W) float32: xx, xy, yy; grey values in 0..1.
    """
    grey = picture.to(torch.float32).mean(0) / 255
    # Next-pixel differences see the finest pattern, which central ones do not; those across and down lie half a pixel
    # apart, so their product takes the mean of two neighbours.
    across, down = pad(grey.diff(dim=1), (0, 1)), pad(grey.diff(dim=0), (0, 0, 0, 1))
    both = pad((across[:-1, :-1] + across[1:, :-1]) * (down[:-1, :-1] + down[:-1, 1:]) / 4, (0, 1, 0, 1))
    return gaussian_mean(torch.stack([across.square(), both, down.square()]), window)


def gaussian_mean(maps: Tensor, window: float) -> Tensor:
    """Average (..., H, W) with a Gaussian cut off at three standard deviations, over what lies inside the picture."""
    reach = max(1, round(3 * window))
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / window) ** 2).tolist()
    for axis in (-2, -1):
        inside = weighted(torch.ones(maps.shape[axis]), taps, -1)
        maps = weighted(maps, taps, axis) / (inside[:, None] if axis == -2 else inside)
    return maps


def weighted(maps: Tensor, taps: list[float], axis: int) -> Tensor:
    """The sum of neighbours along an axis, times an odd number of taps; zeros outside.

    A shifted sum for each tap is several times faster than a convolution of one channel.
    """
    total, size, half = torch.zeros_like(maps), maps.shape[axis], len(taps) // 2
    for shift in range(-half, half + 1):
        start, length = max(0, -shift), size - abs(shift)
        if length > 0:
            neighbour = maps.narrow(axis, start + shift, length)
            total.narrow(axis, start, length).add_(neighbour, alpha=taps[shift + half])
    return total


class Positions:
    """The thirds of the picture: upper, middle or lower, and left, centre or right.

    Row r of H is in third floor(3 r / H), columns likewise.
    """

    names = tuple(f"place: {name}" for name in (*ROWS, *COLUMNS))

    def __call__(self, picture: Tensor, labels: Mapping[str, Tensor]) -> Tensor:
        """(6, H, W): three bands of rows, then three of columns; `labels` are not used."""
        height, width = picture.shape[-2:]
        rows = (torch.arange(height) * 3 // height)[:, None].expand(height, width)
        columns = (torch.arange(width) * 3 // width)[None].expand(height, width)
        return torch.cat([one_hot(rows, 3), one_hot(columns, 3)])


def one_hot(numbers: Tensor, size: int) -> Tensor:
    """(H, W) whole numbers -> (size, H, W) int8."""
    return (numbers == torch.arange(size, dtype=numbers.dtype).view(-1, 1, 1)).to(torch.int8)
