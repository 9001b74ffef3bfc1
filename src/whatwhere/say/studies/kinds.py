"""The kinds of bottleneck that are compared, and how each is made ready before what follows is fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whatwhere.bottleneck.heads import (
    Pixels,
    drawn_pixels,
    fit_heads,
    maps_at,
    orthonormal,
    principal,
    reconstruct,
)  # fmt: skip
from whatwhere.bottleneck.insert import bottleneck
from whatwhere.bottleneck.layer import Bottleneck
from whatwhere.errors import InputError
from whatwhere.studies.bottleneck.features import SiteFeatures
from whatwhere.studies.rows import checked_names

KINDS: Mapping[str, str] = {
    "intact": "the network as it was trained",
    "tuned": "no bottleneck, what follows the site fine-tuned as long as the others: what tuning alone does",
    "ssb": "supervised: every map a labelled concept, fitted before, then kept",
    "ssb-binary": "the same maps rounded to 0 and 1 before what follows is fine-tuned: no room for leakage",
    "usb": "unsupervised: softmax groups, driven towards one-hot while all is fine-tuned",
    "learned": "a 1 x 1 convolution of the same width, fine-tuned with what follows: the control of the width",
    "pca": "the first principal components of the features, kept",
    "random": "random directions, kept",
    "truth": "the labels' own concept maps in the place of predicted ones: the ceiling of these concepts",
}
PLAIN = ("intact", "tuned")
CEILING = "ceiling"  # no network: what a table from concepts to classes says
SAMPLE = 60_000  # places that heads, components and reconstructions are fitted on
HELD_OUT = 5  # every fifth group calibrates the heads
COLDEST = 0.1  # the temperature at the end: softmax groups are then near one-hot


@dataclass(frozen=True)
class Plan:
    """What a kind is made of.

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


def narrowed(module: nn.Module, kind: str, plan: Plan, size: tuple[int, int, int], train: SiteFeatures) -> nn.Module:
    """A network with a bottleneck of a kind, ready to be fine-tuned behind the site.

    Args:
        module: the trained network; it is left alone.
        kind: one of `KINDS`, but not of `PLAIN`.
        plan: what to make.
        size: (C, H, W) of a picture.
        train: features to fit on.
    """
    channels = train.features.shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(plan.seed)
        layer = _LAYERS[kind](channels, plan)
    made = bottleneck(module, plan.site, layer, input_size=size)
    assert isinstance(made, nn.Module)
    if kind in ("ssb", "ssb-binary"):
        fit_heads(layer, sample(train, plan.seed, calibrating=False), sample(train, plan.seed, calibrating=True))
    drawn = sample(train, plan.seed)
    if kind in ("pca", "learned"):
        principal(layer, drawn.features)
    if kind == "random":
        orthonormal(layer, plan.seed)
    maps = drawn.targets.clamp_min(0).float() if kind == "truth" else maps_at(layer, drawn.features)
    reconstruct(layer, maps, drawn.features)
    if kind not in ("learned", "usb"):
        layer.freeze()
    return made


def _sigmoid(channels: int, plan: Plan) -> Bottleneck:
    return Bottleneck(channels, len(plan.names), "sigmoid", names=plan.names)


def _binary(channels: int, plan: Plan) -> Bottleneck:
    return Bottleneck(channels, len(plan.names), "binary", names=plan.names)


def _linear(channels: int, plan: Plan) -> Bottleneck:
    return Bottleneck(channels, len(plan.names), "linear")


def _given(channels: int, plan: Plan) -> Bottleneck:
    return Bottleneck(channels, len(plan.names), "linear", names=plan.names)


def _softmax(channels: int, plan: Plan) -> Bottleneck:
    k = -(-len(plan.names) // plan.group) * plan.group  # up to whole groups
    return Bottleneck(channels, k, "softmax", group=plan.group)


_LAYERS: Mapping[str, Callable[[int, Plan], Bottleneck]] = {
    "ssb": _sigmoid, "ssb-binary": _binary, "usb": _softmax, "learned": _linear, "pca": _linear, "random": _linear,
    "truth": _given,
}  # fmt: skip


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
    groups, index = train.split.groups.unique(return_inverse=True)
    if calibrating is None or len(groups) < HELD_OUT:
        return torch.arange(len(train))
    return torch.nonzero((index % HELD_OUT == HELD_OUT - 1) == calibrating).flatten()


def cooled(layer: Bottleneck, done: int, total: int) -> None:
    """Lower a softmax's temperature geometrically from 1 to its coldest, step by step."""
    layer.temperature.fill_(COLDEST ** (done / total))


def checked_width(site: str, channels: int, concepts: int) -> None:
    """Refuse more concepts than fit through a bottleneck."""
    if concepts >= channels:
        raise InputError(
            f"site={site!r} has {channels} channels, and there are {concepts} concepts: this is no bottleneck. Choose "
            "fewer concepts or another site."
        )


def checked_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds asked for, `intact` first: everything is compared with it.

    Raises:
        InputError: for a name nobody knows.
    """
    return tuple(dict.fromkeys(["intact", *checked_names("kinds", kinds, KINDS)]))
