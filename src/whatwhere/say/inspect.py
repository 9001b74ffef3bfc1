"""Inspectability: how well single channels line up with concepts (Losch et al., GCPR 2020, IJCV 2021).

The inspectability curve is the share of channels whose best-matching concept reaches an intersection over union (IoU)
of at least ξ, over ξ; AUiC is the area under it. That much is recalled from the paper; the following is our own
definition. A channel says "present" where its activation is *above* a threshold: high means present, no channel is
inverted. IoU is pooled over the pixels of all pictures on which the concept is labelled, the others are ignored.
Thresholds are quantiles of the channel. Threshold and best-matching concept are chosen on one half of the pictures and
scored on the other, since the best of many choices flatters itself on the pictures it was chosen on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.say.checked import finite, whole

SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
PIXELS = 1 << 16  # counted at once: far below 2^24, up to which float32 counts exactly


@dataclass(frozen=True)
class Choice:
    """What was chosen on the pictures of one half.

    Attributes:
        thresholds: (C, T) that could be chosen from.
        index: (C, K) which threshold gives each pair of channel and concept its highest IoU.
        concept: (C,) the best-matching concept of each channel.
    """

    thresholds: Tensor
    index: Tensor
    concept: Tensor


class Overlap:
    """Counts, batch by batch, how channels and concepts overlap.

    >>> limits = thresholds_of(some_activations)                        # (C, T)
    >>> fit, test = Overlap(C, K, limits), Overlap(C, K, limits)
    >>> for x, y in first_half: fit.update(x, y)
    >>> for x, y in second_half: test.update(x, y)
    >>> auic(test.matched(fit.best()))

    Memory: two counts of C · T · K integers (16 C T K bytes), and 4 (C + 2K) bytes for each of 65 536 pixels at once.
    Time: one product of 4 C T K operations for each pixel with a label, on the device of the activations.

    Attributes:
        thresholds: (C, T).
        labelled: (K,) pixels so far with a label for the concept.
        positive: (K,) those of them where it is present.
    """

    def __init__(self, channels: int, concepts: int, thresholds: Tensor) -> None:
        """Start from zero.

        Args:
            channels: C.
            concepts: K.
            thresholds: (C, T), in the activations' units; a channel is on where it is above.

        Raises:
            InputError: if the thresholds are not those of the channels, or not finite, or there is no concept.
        """
        whole("concepts", concepts, 1)
        if thresholds.ndim != 2 or len(thresholds) != channels or not thresholds.shape[1]:
            raise InputError(
                f"thresholds: shape {tuple(thresholds.shape)}; give ({channels}, T) for {channels} channels."
            )
        finite(thresholds=thresholds)
        self.thresholds = thresholds.detach().cpu()
        self.labelled, self.positive = torch.zeros(2, concepts, dtype=torch.int64)
        self._counts = torch.zeros(thresholds.shape[1], channels, 2, concepts, dtype=torch.int64)

    def update(self, activations: Tensor, targets: Tensor) -> None:
        """Take in a batch.

        Args:
            activations: (N, C, h, w) float.
            targets: (N, K, h, w) integers: 1 present, 0 absent, -1 not labelled.

        Raises:
            InputError: if shapes do not fit, activations are not finite, or targets hold anything else.
        """
        self._check(activations, targets)
        x, y = (v.detach().transpose(0, 1).flatten(1) for v in (activations, targets))
        seen = (y >= 0).any(0)
        for some, goals in zip(x[:, seen].split(PIXELS, 1), y[:, seen].split(PIXELS, 1), strict=True):
            self._count(some, goals)

    def _count(self, x: Tensor, y: Tensor) -> None:
        """Pixels (C, P) and (K, P)."""
        goals = torch.stack([y == 1, y >= 0]).to(torch.float32)
        positive, labelled = goals.sum(2).long().cpu()
        self.positive += positive
        self.labelled += labelled
        for i, limits in enumerate(self.thresholds.to(x).T):
            on = (x > limits[:, None]).to(torch.float32)
            with torch.autocast(x.device.type, enabled=False):  # half precision counts to 2048 only
                both = on @ goals.flatten(0, 1).T
            self._counts[i] += both.view(len(x), 2, -1).long().cpu()

    def _check(self, activations: Tensor, targets: Tensor) -> None:
        n, _, *size = activations.shape
        shapes = (n, len(self.thresholds), *size), (n, len(self.labelled), *size)
        if activations.ndim != 4 or (activations.shape, targets.shape) != shapes:
            raise InputError(
                f"activations {tuple(activations.shape)} and targets {tuple(targets.shape)}; give (N, "
                f"{len(self.thresholds)}, h, w) and (N, {len(self.labelled)}, h, w), resized to each other."
            )
        finite(activations=activations)
        if targets.is_floating_point():
            raise InputError(f"targets: {targets.dtype}; give integers: 1 present, 0 absent, -1 not labelled.")
        if targets.numel() and not -1 <= int(targets.min()) <= int(targets.max()) <= 1:
            raise InputError("targets hold values other than 1 (present), 0 (absent) and -1 (not labelled).")

    def iou(self) -> Tensor:
        """Intersection over union, (C, T, K), float64; 0 where both are empty, as of a concept without labels."""
        both, on = self._counts.unbind(2)
        union = on + self.positive - both
        return (both.double() / union.clamp_min(1)).transpose(0, 1)

    def always_on(self) -> Tensor:
        """The IoU of a channel that is on everywhere, (K,): the concept's share, what an empty claim is worth."""
        return self.positive.double() / self.labelled.clamp_min(1)

    def best(self) -> Choice:
        """The best threshold of each pair and the best concept of each channel; the first of equally good ones."""
        highest, index = self.iou().max(1)
        return Choice(self.thresholds, index, highest.argmax(1))

    def score(self, choice: Choice) -> Tensor:
        """IoU of each pair, (C, K), at thresholds chosen elsewhere.

        Raises:
            InputError: if they were chosen among other thresholds, or no pixel with a label was counted.
        """
        if not torch.equal(choice.thresholds, self.thresholds):
            raise InputError("choice was made among other thresholds; give both halves' Overlap the same ones.")
        if not self.labelled.any():
            raise InputError("update: no pixel with a label was counted; give activations and targets first.")
        return self.iou().gather(1, choice.index[:, None])[:, 0]

    def matched(self, choice: Choice) -> Tensor:
        """IoU of each channel, (C,), with the concept, and at the threshold, that were chosen elsewhere.

        Raises:
            InputError: if they were chosen among other thresholds, or no pixel with a label was counted.
        """
        return self.score(choice).gather(1, choice.concept[:, None])[:, 0]


def matched_counts(activations: Tensor, targets: Tensor, choice: Choice) -> Tensor:
    """Each picture's pixels in the intersection and in the union of a channel and the concept that was chosen for it.

    Summed over pictures they give `Overlap.matched`; apart, they are what an interval over pictures is drawn from.

    Args:
        activations: (N, C, h, w).
        targets: (N, K, h, w): 1 present, 0 absent, -1 not labelled.
        choice: concept and threshold of each channel.

    Returns:
        (N, C, 2) int64.
    """
    limits = choice.thresholds.gather(1, choice.index.gather(1, choice.concept[:, None]))[:, 0]
    y = targets[:, choice.concept]
    on = (activations > limits.to(activations).view(1, -1, 1, 1)) & (y >= 0)
    there = y == 1
    return torch.stack([(on & there).flatten(2).sum(2), (on | there).flatten(2).sum(2)], 2)


def thresholds_of(activations: Tensor, shares: Sequence[float] = SHARES) -> Tensor:
    """Quantiles of each channel, (C, T): the least value that no more than a share of the pixels is above.

    A channel that is zero on most pixels, as after ReLU, is on at fewer of them than asked for.

    Args:
        activations: (N, C, h, w), a sample of the pictures to choose on.
        shares: of pixels that are on, each between 0 and 1.

    Raises:
        InputError: if a share is not between 0 and 1, or there is no pixel, or one that is not finite.
    """
    if activations.ndim != 4 or not activations.numel():
        raise InputError(f"activations: shape {tuple(activations.shape)}; give (N, C, h, w), at least one pixel.")
    finite(activations=activations)
    if not shares or not all(0 < s < 1 for s in shares):
        raise InputError(f"shares={tuple(shares)}: give shares of pixels between 0 and 1, e.g. {SHARES}.")
    ordered = activations.detach().transpose(0, 1).flatten(1).sort(1, descending=True).values
    above = [int(s * ordered.shape[1] + 1e-9) for s in shares]
    return ordered[:, above].cpu()


def inspectability_curve(iou: Tensor, points: int = 101) -> tuple[Tensor, Tensor]:
    """The share of channels whose best-matching concept reaches IoU ≥ ξ.

    Args:
        iou: (C, K) of every pair, where the best-matching concept is the highest; or (C,) of matches made elsewhere.
        points: number of ξ, evenly from 0 to 1.

    Returns:
        ξ and the share at each, both (points,).

    Raises:
        InputError: for fewer than two points, or values that are not IoUs.
    """
    whole("points", points, 2)
    xi = torch.linspace(0, 1, points, dtype=torch.float64)
    return xi, (_of_channels(iou)[:, None] >= xi).double().mean(0)


def auic(iou: Tensor) -> float:
    """Area under the inspectability curve, exact: ∫ share(best ≥ ξ) dξ is the mean over channels of the best IoU.

    Args:
        iou: as for `inspectability_curve`.

    Raises:
        InputError: for values that are not IoUs.
    """
    return float(_of_channels(iou).mean())


def _of_channels(iou: Tensor) -> Tensor:
    if iou.ndim not in (1, 2) or not iou.numel():
        raise InputError(f"iou: shape {tuple(iou.shape)}; give (C, K) or (C,).")
    if not bool(((iou >= 0) & (iou <= 1)).all()):
        raise InputError(f"iou: from {float(iou.min()):g} to {float(iou.max()):g}; give IoUs, from 0 to 1.")
    return (iou if iou.ndim == 1 else iou.amax(1)).double().cpu()
