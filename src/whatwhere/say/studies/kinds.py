"""How each kind of bottleneck is made ready before what follows it is fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.lab.rows import checked_names
from whatwhere.say.heads import (
    Pixels,
    drawn_pixels,
    fit_heads,
    maps_at,
    orthonormal,
    principal,
    reconstruct,
)
from whatwhere.say.insert import bottleneck
from whatwhere.say.layer import Bottleneck
from whatwhere.say.studies.compare import KINDS
from whatwhere.say.studies.features import SiteFeatures

PLAIN = ("intact", "tuned")
SUPERVISED = ("ssb", "ssb-binary")
CEILING = "ceiling"  # no network: a table from concepts to classes
SAMPLE = 60_000  # places that heads, components and reconstructions are fitted on
HELD_OUT = 5  # every fifth group calibrates the heads
COLDEST = 0.1  # the temperature at the end: softmax groups are then near one-hot
Size: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Make:
    """What a bottleneck is made of.

    Attributes:
        site: the module that the bottleneck goes behind.
        names: of the concepts; their number is the width of every kind.
        group: maps in a softmax group of `usb`.
        seed: of random directions and of the places drawn.
    """

    site: str
    names: tuple[str, ...]
    group: int
    seed: int


@dataclass(frozen=True)
class HeadPixels:
    """Places with labelled concepts.

    Attributes:
        fit: the heads are fitted there.
        calibration: and calibrated there, on other pictures.
    """

    fit: Pixels
    calibration: Pixels


def placed(module: nn.Module, kind: str, make: Make, size: Size, channels: int) -> nn.Module:
    """A network with a bottleneck of a kind whose weights are not fitted.

    Args:
        module: the trained network; it is left alone.
        kind: one of `KINDS`, but not of `PLAIN`.
        make: what to make.
        size: (C, H, W) of a picture.
        channels: of the site.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(make.seed)
        layer = _LAYERS[kind](channels, make)
    return bottleneck(module, make.site, layer, input_size=size)


def fitted(
    layer: Bottleneck, kind: str, make: Make, train: SiteFeatures, heads: Callable[[], HeadPixels] | None = None
) -> None:
    """Fit a bottleneck, in place, ready for what follows the site to be fine-tuned.

    Args:
        layer: of the kind.
        kind: one of `KINDS`, but not of `PLAIN`.
        make: what it is made of.
        train: features to fit on.
        heads: labelled places for the supervised kinds; None: those of the scenes.
    """
    if kind in SUPERVISED:
        labelled = heads() if heads else scene_pixels(train, make.seed)
        fit_heads(layer, labelled.fit, labelled.calibration)
    drawn = sample(train, make.seed)
    if kind in ("pca", "learned"):
        principal(layer, drawn.features)
    if kind == "random":
        orthonormal(layer, make.seed)
    maps = drawn.targets.clamp_min(0).float() if kind == "truth" else maps_at(layer, drawn.features)
    reconstruct(layer, maps, drawn.features)
    if kind not in ("learned", "usb"):
        layer.freeze()


def scene_pixels(train: SiteFeatures, seed: int) -> HeadPixels:
    """Labelled places of the scenes; other groups of pictures calibrate."""
    drawn = sample(train, seed, calibrating=False)
    return HeadPixels(with_rare(drawn, train), sample(train, seed, calibrating=True))


def with_rare(drawn: Pixels, train: SiteFeatures) -> Pixels:
    """Places drawn, and one more of each concept that is somewhere, or not everywhere, and was missed.

    Args:
        drawn: from the pictures that heads are fitted on.
        train: features and concepts of all.
    """
    added = [drawn]
    for wanted in (_present, _absent):
        for k in (~wanted(drawn.targets).any(0)).nonzero()[:, 0].tolist():
            added += next(iter(_place(train, k, wanted)), [])
    return Pixels(*(torch.cat([getattr(p, name) for p in added]) for name in ("features", "targets")))


def _present(shares: Tensor) -> Tensor:
    return shares > 0


def _absent(shares: Tensor) -> Tensor:
    return (shares >= 0) & (shares < 1)


def _place(train: SiteFeatures, k: int, wanted: Callable[[Tensor], Tensor]) -> Iterator[list[Pixels]]:
    """The first places where a concept is as wanted, picture by picture."""
    for row in rows_of(train, False).split(1):
        shares = train.shares_at(row)[0].flatten(1).T
        at = wanted(shares[:, k]).nonzero()[:1, 0]
        if len(at):
            yield [Pixels(train.at(row)[0].flatten(1).T[at], shares[at])]


def _sigmoid(channels: int, make: Make) -> Bottleneck:
    return Bottleneck(channels, len(make.names), "sigmoid", names=make.names)


def _binary(channels: int, make: Make) -> Bottleneck:
    return Bottleneck(channels, len(make.names), "binary", names=make.names)


def _linear(channels: int, make: Make) -> Bottleneck:
    return Bottleneck(channels, len(make.names), "linear")


def _given(channels: int, make: Make) -> Bottleneck:
    return Bottleneck(channels, len(make.names), "linear", names=make.names)


def _softmax(channels: int, make: Make) -> Bottleneck:
    return Bottleneck(channels, whole_groups(len(make.names), make.group), "softmax", group=make.group)


def whole_groups(concepts: int, group: int) -> int:
    """As many maps as concepts, up to whole groups."""
    return -(-concepts // group) * group if group else concepts


_LAYERS: Mapping[str, Callable[[int, Make], Bottleneck]] = {
    "ssb": _sigmoid,
    "ssb-binary": _binary,
    "usb": _softmax,
    "learned": _linear,
    "pca": _linear,
    "random": _linear,
    "truth": _given,
}


def sample(train: SiteFeatures, seed: int, *, calibrating: bool | None = None, n: int = SAMPLE) -> Pixels:
    """Places drawn at random from pictures, as many from each.

    Args:
        train: features and concepts.
        seed: of the draw.
        calibrating: only the groups that are held out for calibration, or only the others; None: all.
        n: places in all.
    """
    rows = rows_of(train, calibrating)
    each, generator = max(1, n // len(rows)), torch.Generator().manual_seed(seed)
    drawn = [drawn_pixels(train.at(r), train.shares_at(r), each, generator) for r in rows.split(1)]
    return Pixels(torch.cat([d.features for d in drawn]), torch.cat([d.targets for d in drawn]))


def rows_of(train: SiteFeatures, calibrating: bool | None) -> Tensor:
    """The rows of some groups; all of them where there are too few groups to hold one out."""
    return fit_rows(train.split.groups, calibrating)


def fit_rows(of: Tensor, calibrating: bool | None) -> Tensor:
    """The same, of the groups (N,) that pictures belong to."""
    groups, index = of.unique(return_inverse=True)
    if calibrating is None or len(groups) < HELD_OUT:
        return torch.arange(len(of))
    return torch.nonzero((index % HELD_OUT == HELD_OUT - 1) == calibrating).flatten()


def cooled(layer: Bottleneck, done: int, total: int) -> None:
    """Lower a softmax's temperature geometrically from 1 to its coldest, step by step."""
    layer.temperature.fill_(COLDEST ** (done / total))


def checked_width(site: str, channels: int, concepts: int, group: int = 0) -> None:
    """Refuse more concepts than fit through a bottleneck, or groups of which the last makes it as wide as the site.

    Args:
        site: a module's name.
        channels: of it.
        concepts: how many.
        group: maps in a softmax group of `usb`; 0 without that kind.
    """
    maps = whole_groups(concepts, group)
    if group and maps >= channels > concepts:
        raise InputError(
            f"group={group}: {concepts} concepts in whole groups are {maps} maps, and site={site!r} has {channels} "
            "channels; give a smaller group, or leave the kind usb out."
        )
    if concepts >= channels:
        raise InputError(
            f"site={site!r} has {channels} channels and there are {concepts} concepts: the layer would not be narrower "
            "than the site. Choose fewer concepts or another site."
        )


def checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds asked for, `intact` first: everything is compared with it.

    Raises:
        InputError: for an unknown name.
    """
    return tuple(dict.fromkeys(["intact", *checked_names("kinds", kinds, KINDS)]))
