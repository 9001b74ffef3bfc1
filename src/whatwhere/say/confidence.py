"""Confidence: how sure a network is of a pixel, by its logits, one temperature, or the concepts of a bottleneck.

Losch et al. [losch2019] predict confidence from the activations of a semantic bottleneck; that this is a logistic
regression on them and the predicted class is our choice. `selective` says what a confidence is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.say.checked import finite, shaped, within

AT_ONCE = 1 << 22  # values in double precision at a time
CONSTANT = 1e-12  # a smaller spread, as a share of a concept's largest value, is rounding of float64
COOLEST, HOTTEST = 0.01, 100.0  # temperatures


def max_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Confidence as the probability of the predicted class.

    Args:
        logits: (P, K) or (N, K, h, w). In float32 all beyond 1 - 6e-8 tie at 1; give float64 to separate them.
        temperature: logits are divided by it.

    Returns:
        (P,) or (N, h, w), in [0, 1].

    Raises:
        InputError: for a temperature that is not above 0, or logits of which no probability follows.
    """
    return _probabilities(logits, temperature).amax(1)


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Confidence as 1 - H / log K with the entropy H of the K classes: in [0, 1], but not a probability of being right.

    Args:
        logits: (P, K) or (N, K, h, w), K of at least 2.
        temperature: logits are divided by it.

    Raises:
        InputError: as `max_softmax`, and for a single class, which nothing can be unsure of.
    """
    p = _probabilities(logits, temperature)
    if p.shape[1] < 2:
        raise InputError(f"logits: {p.shape[1]} class; the entropy needs at least 2.")
    return (1 - torch.special.entr(p).sum(1) / math.log(p.shape[1])).clamp(0, 1)


def _probabilities(logits: Tensor, temperature: float) -> Tensor:
    within("temperature", temperature, 0, math.inf, open_low=True)
    p = (_wide(logits) / temperature).softmax(1)
    if bool(p.isnan().any()):  # not of -inf, which rules a class out
        raise InputError("logits hold values that are not numbers; check the network's weights and the pictures.")
    return p


def temperature(logits: Tensor, labels: Tensor) -> float:
    """The one temperature with the least negative log likelihood (Guo et al. 2017), found exactly.

    The likelihood is convex in 1 / temperature, and the root of its slope is bracketed. At most 100 and at least 0.01,
    which is what pixels that are all predicted right lead to.

    Args:
        logits: (P, K) or (N, K, h, w), of validation pixels.
        labels: (P,) or (N, h, w); pixels below 0 are ignored.

    Raises:
        InputError: if no pixel is labelled, a label has no logit or a logit is not finite, or shapes differ.
    """
    from scipy.optimize import brentq  # takes a second to import

    z = logits.detach().movedim(1, -1)
    if z.shape[:-1] != labels.shape:
        raise InputError(f"logits {tuple(logits.shape)}, labels {tuple(labels.shape)}: give one label for each pixel.")
    z, y = z[labels >= 0].double(), labels[labels >= 0].long()
    if not len(y):
        raise InputError("labels: none is 0 or more; give one label for each pixel, at least one of 0 or more.")
    if int(y.max()) >= z.shape[1]:
        raise InputError(f"labels: there is {int(y.max())}, and {z.shape[1]} logits; give classes below {z.shape[1]}.")
    finite(logits=z)
    own = z.gather(1, y[:, None])[:, 0]

    def slope(sharpness: float) -> float:
        return float((((z * sharpness).softmax(1) * z).sum(1) - own).mean())

    if slope(1 / COOLEST) <= 0:
        return COOLEST
    return HOTTEST if slope(1 / HOTTEST) >= 0 else 1 / float(brentq(slope, 1 / HOTTEST, 1 / COOLEST, xtol=1e-10))


@dataclass(frozen=True)
class ConfidenceModel:
    """P(right) of a pixel from its concepts and its predicted class, by logistic regression.

    >>> model = ConfidenceModel.fit(concepts, predicted, predicted == labels, classes=19)
    >>> model(concepts, predicted)                                      # (P,) in [0, 1]
    >>> model.ranked(names)                                             # [("wheel", 0.8), ..., ("vegetation", -0.3)]

    Attributes:
        bias: (classes,) log odds of a pixel of this predicted class whose concepts are all at their mean.
        weight: (classes, K) what a standard deviation more of a concept adds to them; alike for all classes unless
            fitted with interactions.
        mean: (K,) of the concepts, of the pixels fitted.
        spread: (K,) their standard deviation; infinite where a concept does not change.
    """

    bias: Tensor
    weight: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def fit(
        cls,
        concepts: Tensor,
        predicted: Tensor,
        correct: Tensor,
        *,
        classes: int,
        interactions: bool = False,
        penalty: float = 1e-4,
    ) -> ConfidenceModel:
        """Fit on a sample of pixels that the network was not trained on; deterministic.

        The objective is the mean log loss plus penalty / 2 · |w|², on standardised concepts and one column for each
        class, with an intercept that is free: scikit-learn's `LogisticRegression(C=1 / (penalty · P))`.

        Args:
            concepts: (P, K).
            predicted: (P,) integers below `classes`.
            correct: (P,) whether the prediction is right.
            classes: of the network.
            interactions: let a concept speak differently for each predicted class.
            penalty: on the squared coefficients, above 0.

        Raises:
            InputError: if shapes or values do not fit, all pixels are right or all wrong, or it does not converge.
        """
        _check(concepts, predicted, correct, classes, penalty)
        x = concepts.detach().double().cpu()
        mean, spread = x.mean(0), x.std(0, correction=0)
        # By the concept's own size: one that varies little beside the others may say the most.
        spread = torch.where(spread > CONSTANT * x.abs().amax(0), spread, math.inf)
        loss = _LogLoss((x - mean) / spread, predicted.cpu(), correct.cpu().double(), classes, interactions, penalty)
        return cls(*loss.solve(), mean, spread)

    def __call__(self, concepts: Tensor, predicted: Tensor) -> Tensor:
        """P(right) of concepts (P, K) or (N, K, h, w) under predicted classes (P,) or (N, h, w).

        Raises:
            InputError: as `evidence`.
        """
        rows = max(1, AT_ONCE // max(1, concepts[0].numel())) if len(concepts) else 1
        parts = [self._odds(*part) for part in zip(concepts.split(rows), predicted.split(rows), strict=True)]
        return torch.sigmoid(torch.cat(parts)).to(_wide(concepts).dtype)

    def _odds(self, concepts: Tensor, predicted: Tensor) -> Tensor:
        return self._evidence(concepts, predicted).sum(1) + self.bias.to(concepts.device)[predicted]

    def evidence(self, concepts: Tensor, predicted: Tensor) -> Tensor:
        """What each concept adds to the log odds against its mean, in the shape of the concepts.

        Args:
            concepts: (P, K) or (N, K, h, w).
            predicted: (P,) or (N, h, w).

        Raises:
            InputError: if there are other concepts or classes than it was fitted on, or values are not finite.
        """
        return self._evidence(concepts, predicted).to(_wide(concepts).dtype)

    def _evidence(self, concepts: Tensor, predicted: Tensor) -> Tensor:
        """In float64: of a concept far from 0, single precision leaves nothing of the difference from its mean."""
        shaped("concepts", concepts, "P or N", len(self.mean), *concepts.shape[2:])
        shaped("predicted", predicted, len(concepts), *concepts.shape[2:])
        _check_classes(predicted, len(self.bias))
        finite(concepts=concepts)
        at = (-1,) + (1,) * (concepts.ndim - 2)
        mean, spread, weight = (v.to(concepts.device) for v in (self.mean, self.spread, self.weight))
        return (concepts.double() - mean.view(at)) / spread.view(at) * weight[predicted].movedim(-1, 1)

    def ranked(self, names: Sequence[str], predicted: int = 0) -> list[tuple[str, float]]:
        """Concepts with their weights under a predicted class, from those that speak for it to those against.

        Raises:
            InputError: for names that are not as many as concepts, or a class that it was not fitted on.
        """
        if len(names) != self.weight.shape[1] or not 0 <= predicted < len(self.weight):
            raise InputError(
                f"names: {len(names)}, predicted={predicted}; give {self.weight.shape[1]} names and a class from 0 to "
                f"{len(self.weight) - 1}."
            )
        return sorted(zip(names, self.weight[predicted].tolist(), strict=True), key=lambda pair: -pair[1])


def _check(concepts: Tensor, predicted: Tensor, correct: Tensor, classes: int, penalty: float) -> None:
    p = len(concepts)
    if concepts.ndim != 2 or predicted.shape != (p,) or correct.shape != (p,):
        raise InputError(
            f"concepts {tuple(concepts.shape)}, predicted {tuple(predicted.shape)}, correct {tuple(correct.shape)}; "
            "give (P, K), (P,) and (P,)."
        )
    finite(concepts=concepts)
    if correct.bool().all() or not correct.any():
        raise InputError(f"correct: all {p} pixels are right, or all wrong; give a sample with both.")
    _check_classes(predicted, classes)
    if not 0 < penalty < math.inf:
        raise InputError(f"penalty={penalty}: give one above 0, e.g. 1e-4.")


def _check_classes(predicted: Tensor, classes: int) -> None:
    if len(predicted) and not 0 <= int(predicted.min()) <= int(predicted.max()) < classes:
        raise InputError(
            f"predicted: {int(predicted.min())} to {int(predicted.max())}; classes={classes} end below it."
        )


class _LogLoss:
    """The objective of `ConfidenceModel.fit`, of a flat vector: intercept, classes, concepts, interactions."""

    def __init__(
        self, x: Tensor, predicted: Tensor, correct: Tensor, classes: int, interactions: bool, penalty: float
    ) -> None:
        order = predicted.argsort(stable=True)  # class by class, so that each has one product with its own weights
        self.counts: list[int] = predicted.bincount(minlength=classes).tolist()
        self.parts, self.correct = x[order].split(self.counts), correct[order]
        self.sizes = [1, classes, x.shape[1], classes * x.shape[1] if interactions else 0]
        self.penalty = penalty

    def solve(self) -> tuple[Tensor, Tensor]:
        """Bias (classes,) and weight (classes, K)."""
        from scipy.optimize import minimize  # takes a second to import

        options = {"maxiter": 5000, "maxfun": 10000, "gtol": 1e-8, "ftol": 1e-15}
        found = minimize(self, np.zeros(sum(self.sizes)), jac=True, method="L-BFGS-B", options=options)
        if not np.abs(found.jac).max() < 1e-5:
            raise InputError(f"the confidence model did not converge ({found.message}); give a larger penalty.")
        return self._tables(torch.from_numpy(found.x))

    def _tables(self, w: Tensor) -> tuple[Tensor, Tensor]:
        intercept, offsets, shared, own = w.split(self.sizes)
        table = own.view(len(offsets), -1) if len(own) else torch.zeros(len(offsets), 1).to(w)
        return intercept + offsets, shared + table

    def __call__(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The objective and its gradient."""
        w = torch.from_numpy(flat)
        bias, weight = self._tables(w)
        z = torch.cat([x @ row + b for x, row, b in zip(self.parts, weight, bias, strict=True)])
        residual = ((z.sigmoid() - self.correct) / len(z)).split(self.counts)
        of_bias = torch.stack([r.sum() for r in residual])
        of_weight = torch.stack([r @ x for r, x in zip(residual, self.parts, strict=True)])
        slope = [of_bias.sum(0, keepdim=True), of_bias, of_weight.sum(0), of_weight.flatten()[: self.sizes[3]]]
        shrunk = torch.cat([w.new_zeros(1), w[1:]])  # the intercept is free
        loss = (torch.nn.functional.softplus(z) - self.correct * z).mean() + self.penalty / 2 * shrunk.square().sum()
        return float(loss), (torch.cat(slope) + self.penalty * shrunk).numpy()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
