"""Concept heads: one linear classifier a concept, fitted on frozen features."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from whatwhere.errors import InputError
from whatwhere.say.checked import finite, shaped, whole, within
from whatwhere.say.layer import Bottleneck

PRESENT, ABSENT = 1, 0  # any other value is unlabelled
CONSTANT = 1e-6  # a smaller spread, as a share of a channel's largest value, is rounding
FLATTEST = 1e-3  # the least factor of a calibrated score: a head that says the opposite is not turned round


@dataclass(frozen=True)
class Pixels:
    """Features at some places, and which concepts are there.

    Attributes:
        features: (P, C).
        targets: (P, K): 1 present, 0 absent, between them the share of the place where it is; -1 unlabelled.
    """

    features: Tensor
    targets: Tensor


def at_cells(targets: Tensor, size: Sequence[int]) -> Tensor:
    """Concept labels where the centres of a coarser grid's cells lie: (N, K, H, W) to (N, K, h, w), int8.

    Raises:
        InputError: for a grid without cells.
    """
    _check_grid(size)
    return functional.interpolate(targets.float(), size=tuple(size), mode="nearest-exact").to(torch.int8)


def shares_of(targets: Tensor, size: Sequence[int]) -> Tensor:
    """How much of each of a coarser grid's cells a concept fills: (N, K, H, W) to (N, K, h, w), float32.

    Of the labelled pixels of the cell, the share where it is present; -1 where none is labelled. A cell at a border of
    two things says so, which a label at its centre does not.

    Raises:
        InputError: for a grid without cells.
    """
    _check_grid(size)
    h, w = size
    known = functional.adaptive_avg_pool2d((targets >= ABSENT).float(), (h, w))
    present = functional.adaptive_avg_pool2d((targets == PRESENT).float(), (h, w))
    return torch.where(known > 0, present / known.clamp_min(1e-9), -1.0)


def _check_grid(size: Sequence[int]) -> None:
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size={tuple(size)}: give (h, w) of the cells, each at least 1.")


def drawn_pixels(features: Tensor, targets: Tensor, n: int, generator: torch.Generator) -> Pixels:
    """Draw places at random from a batch.

    Args:
        features: (N, C, h, w).
        targets: (N, K, h, w).
        n: places, at most as many as there are.
        generator: source of the draws.

    Raises:
        InputError: for no place to draw, or shapes that do not fit.
    """
    whole("n", n, 1)
    shaped("targets", targets, len(features), "K", *features.shape[2:])
    x, y = features.movedim(1, -1).flatten(0, 2), targets.movedim(1, -1).flatten(0, 2)
    chosen = torch.randperm(len(x), generator=generator)[:n]
    return Pixels(x[chosen].float(), y[chosen])


def fit_heads(
    layer: Bottleneck, pixels: Pixels, calibration: Pixels | None = None, *, penalty: float = 1e-4, steps: int = 100
) -> None:
    """Fit a layer's concept maps to labels, in place: a logistic regression for each concept.

    Each is fitted by L-BFGS on standardised features with a quadratic penalty; presence and absence weigh alike,
    however rare the concept is. On other places each is then calibrated (Platt 1999: a factor and an offset of the
    score), so that 0.3 means present in 3 of 10. A place where a concept is not labelled does not enter its loss.

    Args:
        layer: a bottleneck of `sigmoid` or `binary` activation.
        pixels: to fit on.
        calibration: to calibrate on; None: the same.
        penalty: on the squared weights of standardised features.
        steps: of L-BFGS.

    Raises:
        InputError: for a layer of another activation, a concept never labelled present, or never absent; for values
            that are not finite, or do not fit the layer.
    """
    within("penalty", penalty, 0, math.inf)
    whole("steps", steps, 1)
    pixels, held = (_labelled(layer, given) for given in (pixels, calibration or pixels))
    if layer.activation not in ("sigmoid", "binary"):
        raise InputError(f"activation={layer.activation!r}: concept heads give sigmoid or binary maps.")
    check_both(layer.names, pixels)
    mean, std = pixels.features.mean(0), _spread(pixels.features)
    if bool(std.isinf().all()):
        raise InputError(f"features are the same at all {len(pixels.features)} places; no concept can be read there.")
    x = (pixels.features - mean) / std
    weight, bias = _logistic(x, *balanced(pixels.targets), penalty, steps)
    factor, offset = _platt(((held.features - mean) / std) @ weight.T + bias, held.targets, steps)
    weight, bias = factor[:, None] * weight / std, factor * bias + offset
    with torch.no_grad():
        layer.encode.weight.copy_(weight[:, :, None, None])
        layer.encode.bias.copy_(bias - weight @ mean)  # type: ignore[union-attr]


def _spread(features: Tensor) -> Tensor:
    """Standard deviation of each channel; infinite where it is nothing but rounding, so that the channel has no say.

    Measured by the channel's own size: features of any scale give the same heads.
    """
    std = features.std(0, correction=min(1, len(features) - 1))
    return torch.where(std > CONSTANT * features.abs().amax(0), std, math.inf)


def _labelled(layer: Bottleneck, pixels: Pixels) -> Pixels:
    """Places that fit a layer, without those where no concept is labelled."""
    _check_sizes(layer, pixels.features, "targets", pixels.targets)
    some = _known(pixels.targets).any(1)
    found = Pixels(pixels.features[some], pixels.targets[some])
    finite(features=found.features)
    return found


def _check_sizes(layer: Bottleneck, features: Tensor, name: str, values: Tensor) -> None:
    shaped("features", features, "P", layer.encode.in_channels)
    shaped(name, values, len(features), layer.encode.out_channels)


def _known(targets: Tensor) -> Tensor:
    return (targets >= ABSENT) & (targets <= PRESENT)


def _parts(targets: Tensor) -> tuple[Tensor, Tensor]:
    """How far each concept is present and absent, 0 where it is unlabelled."""
    known = _known(targets)
    return torch.where(known, targets.double(), 0.0), torch.where(known, 1 - targets.double(), 0.0)


def balanced(targets: Tensor) -> tuple[Tensor, Tensor]:
    """What a loss should aim at, and its weights, so that presence and absence of each concept count alike.

    Args:
        targets: (P, K), as in `Pixels`.

    Returns:
        (P, K) goals in [0, 1], and (P, K) weights; 0 where a concept is unlabelled.
    """
    present, absent = (m / m.sum(0).clamp_min(1e-9) / 2 for m in _parts(targets))
    weights = present + absent
    return (present / weights.clamp_min(1e-30)).float(), weights.float()


def _logistic(x: Tensor, y: Tensor, weights: Tensor, penalty: float, steps: int) -> tuple[Tensor, Tensor]:
    """All concepts' regressions at once: their losses add up, and do not touch each other."""
    weight = torch.zeros(y.shape[1], x.shape[1], requires_grad=True)
    bias = torch.zeros(y.shape[1], requires_grad=True)

    def loss() -> Tensor:
        each = functional.binary_cross_entropy_with_logits(x @ weight.T + bias, y, weights, reduction="sum")
        return each + penalty * weight.square().sum()

    _descend([weight, bias], loss, steps)
    return weight.detach(), bias.detach()


def _platt(scores: Tensor, targets: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """A factor and an offset of each concept's score; a concept that is not seen both ways here stays as it is."""
    present, absent = _parts(targets)
    y, labelled, both = present.float(), _known(targets), present.any(0) & absent.any(0)
    weights = (labelled / labelled.sum(0).clamp_min(1)) * both
    factor = torch.ones(y.shape[1], requires_grad=True)
    offset = torch.zeros(y.shape[1], requires_grad=True)

    def loss() -> Tensor:
        each = functional.binary_cross_entropy_with_logits(factor * scores + offset, y, weights, reduction="sum")
        return each + 1e-4 * ((factor - 1).square().sum() + offset.square().sum())

    _descend([factor, offset], loss, steps)
    share = (present.sum(0) / labelled.sum(0).clamp_min(1)).clamp(1e-6, 1 - 1e-6)
    useless = factor.detach() < FLATTEST  # worse than chance here: what is left is how often it is present
    return factor.detach().clamp_min(FLATTEST), torch.where(useless, share.logit(), offset.detach())


def _descend(parameters: list[Tensor], loss: Callable[[], Tensor], steps: int) -> None:
    optimizer = torch.optim.LBFGS(parameters, max_iter=steps, line_search_fn="strong_wolfe", tolerance_change=1e-8)

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value.item()

    with torch.enable_grad():
        optimizer.step(closure)


def check_both(names: Sequence[str], pixels: Pixels) -> None:
    """Refuse concepts that cannot be fitted.

    Raises:
        InputError: for one that is never labelled present, or never absent.
    """
    seen = dict(zip(("present", "absent"), (m.any(0) for m in _parts(pixels.targets)), strict=True))
    for what, there in seen.items():
        missing = [n for n, t in zip(names, there.tolist(), strict=True) if not t]
        if missing:
            raise InputError(
                f"concepts {', '.join(missing)} are never labelled {what} where the heads are fitted; leave them out, "
                "or give more pictures."
            )


def maps_at(layer: Bottleneck, features: Tensor) -> Tensor:
    """A layer's concept maps at some places: (P, C) to (P, K).

    Raises:
        InputError: for features of another number of channels.
    """
    shaped("features", features, "P", layer.encode.in_channels)
    with torch.no_grad():
        return layer.concept_maps(features[:, :, None, None])[:, :, 0, 0]


def reconstruct(layer: Bottleneck, maps: Tensor, features: Tensor, penalty: float = 1e-3) -> None:
    """Set what decodes the concept maps to the best linear reconstruction of the features, in place.

    Ridge regression in closed form: fine-tuning then starts where the concepts say of the features what they can.

    Args:
        layer: whose `decode` is set.
        maps: (P, K) concept maps at some places.
        features: (P, C) there.
        penalty: on the squared weights, as a share of the maps' mean variance.

    Raises:
        InputError: for values that are not finite, do not fit the layer, or maps of which one follows from others and
            no penalty.
    """
    _check_sizes(layer, features, "maps", maps)
    finite(features=features, maps=maps)
    within("penalty", penalty, 0, math.inf)
    whole("features: places", len(features), 1)
    z, y = maps.double(), features.double()
    zc, yc = z - z.mean(0), y - y.mean(0)
    gram = zc.T @ zc / len(z)
    ridge = penalty * _positive(gram.diagonal().mean()) * torch.eye(len(gram), dtype=torch.float64)
    try:
        weight = torch.linalg.solve(gram + ridge, zc.T @ yc / len(z)).T
    except RuntimeError as error:  # torch's LinAlgError
        raise InputError(f"penalty={penalty}: maps follow from each other; give one above 0, e.g. 1e-3.") from error
    with torch.no_grad():
        layer.decode.weight.copy_(weight[:, :, None, None].float())
        layer.decode.bias.copy_((y.mean(0) - weight @ z.mean(0)).float())  # type: ignore[union-attr]


def _positive(scale: Tensor) -> Tensor:
    """A scale to measure a penalty by; 1 for maps that do not change, which say nothing at any penalty."""
    return torch.where(scale > 0, scale, 1.0)


def principal(layer: Bottleneck, features: Tensor) -> None:
    """Set the concept maps to the first principal components of the features, in place.

    Args:
        layer: of linear activation, with at most as many maps as channels.
        features: (P, C) at some places.

    Raises:
        InputError: for more maps than channels, too few places, values that are not finite, or a layer that is not
            linear.
    """
    k, c = layer.encode.out_channels, layer.encode.in_channels
    shaped("features", features, "P", c)
    finite(features=features)
    if layer.activation != "linear":
        raise InputError(f"activation={layer.activation!r}: principal components are linear maps.")
    if k > c:
        raise InputError(f"{k} principal components of {c} channels: there are at most as many as channels.")
    if len(features) <= k:
        raise InputError(f"features: {len(features)} places span fewer than {k} components; give more places.")
    with torch.no_grad():
        x = features.double()
        mean = x.mean(0)
        _, vectors = torch.linalg.eigh((x - mean).T @ (x - mean))
        weight = vectors.flip(1)[:, :k].T
        layer.encode.weight.copy_(weight[:, :, None, None].float())
        layer.encode.bias.copy_((-weight @ mean).float())  # type: ignore[union-attr]


def orthonormal(layer: Bottleneck, seed: int) -> None:
    """Set the concept maps to random orthonormal directions, in place.

    Raises:
        InputError: for a seed that is not a whole number.
    """
    whole("seed", seed, 0)
    k, c = layer.encode.out_channels, layer.encode.in_channels
    with torch.no_grad():
        draw = torch.randn(max(k, c), min(k, c), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        basis = torch.linalg.qr(draw).Q
        layer.encode.weight.copy_((basis if k > c else basis.T)[:, :, None, None].float())
        layer.encode.bias.zero_()  # type: ignore[union-attr]
