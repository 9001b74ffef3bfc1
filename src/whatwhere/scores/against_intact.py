"""Scores without labels: how far a network's outputs are from those of the intact one for the same pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from whatwhere.errors import InputError, no_tensor
from whatwhere.scores.score import Evidence, Score, of_pictures

NAMED = ("out", "logits", "last_hidden_state", "image_embeds", "pooler_output")


@dataclass(frozen=True)
class Agreement(Score):
    """The share of pictures (of a segmentation network, of pixels) for which the same class has the highest score.

    With the intact network's classes as labels it is the accuracy. Where a score is no number, nothing agrees.
    """

    unit: Literal["%", ""] = "%"
    of_intact: bool = True
    low: float = 0.0
    high: float = 1.0

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """1 or 0 of scores (N, classes); the share of positions that agree of scores (N, classes, h, w)."""
        scores, original = compared(outputs, intact, self)
        same = (scores.argmax(1) == original.argmax(1)) & ~scores.isnan().any(1)
        return of_pictures(same.float().flatten(1).mean(1) if same.ndim > 1 else same, self.name)


@dataclass(frozen=True)
class Divergence(Score):
    """The Kullback-Leibler divergence from the intact network's class probabilities to these, in nats.

    KL(p || q) = Σ_c p_c log(p_c / q_c), p the softmax of the intact network's scores and q of these; of scores of
    pixels the mean over the map.
    """

    higher_is_better: bool = False
    of_intact: bool = True
    low: float = 0.0

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """Of scores (N, classes) or (N, classes, h, w).

        Raises:
            InputError: where a score is no number: the divergence is not defined.
        """
        scores, original = compared(outputs, intact, self)
        if not bool(scores.isfinite().all()):
            raise InputError(
                f"score={self.name!r}: without spatial information the network gives scores that are NaN or infinite; "
                "give 'agreement', which counts them as another class."
            )
        q, p = scores.double().log_softmax(1), original.double().log_softmax(1)
        apart = functional.kl_div(q, p, reduction="none", log_target=True).sum(1)
        return of_pictures(apart.flatten(1).mean(1) if apart.ndim > 1 else apart, self.name)


@dataclass(frozen=True)
class Likeness(Score):
    """The cosine between a network's features and the intact network's: pooled, or at each position of a map or token.

    Of features (N, D, h, w) or (N, tokens, D) it is the mean of the positions' cosines; a map of one position, as that
    of a collapsed network, stands for all.
    """

    of_intact: bool = True
    low: float = -1.0
    high: float = 1.0

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """Of features (N, D), (N, D, h, w) or (N, tokens, D)."""
        ours, original = main_tensor(outputs).double(), main_tensor(intact).double()
        if ours.ndim == 4 and ours.shape[2:] == (1, 1):
            ours = ours.expand_as(original)
        if ours.shape != original.shape:
            raise InputError(
                f"score={self.name!r}: the features have shape {tuple(ours.shape)}, the intact network's "
                f"{tuple(original.shape)}; features are compared one by one."
            )
        cosines = functional.cosine_similarity(ours, original, dim=-1 if ours.ndim == 3 else 1)
        return of_pictures(cosines.flatten(1).mean(1) if cosines.ndim > 1 else cosines, self.name)


AGREEMENT = Agreement("agreement", "agreement", counted=True, about="with the intact network")
DENSE_AGREEMENT = Agreement("agreement", "agreement", about="with the intact network over positions")
KL = Divergence("kl", "divergence", about="from the intact network's class probabilities, in nats,")
FEATURE = Likeness("feature", "cosine", about="with the intact network's features")


def compared(outputs: Any, intact: Any, score: Score) -> tuple[Tensor, Tensor]:
    """Scores of classes, and the intact network's at the same positions.

    Raises:
        InputError: for outputs that are no such scores.
    """
    ours, original = main_tensor(outputs), main_tensor(intact)
    if ours.ndim not in (2, 4) or ours.shape[1] < 2:
        raise InputError(
            f"score={score.name!r}: the network gives values of shape {tuple(ours.shape)}; expected scores of two or "
            "more classes, (N, classes) or (N, classes, h, w). For features give score='feature'."
        )
    if ours.ndim == 4 and ours.shape[2:] != original.shape[2:]:
        size = tuple(original.shape[2:])
        ours = functional.interpolate(ours.float(), size=size, mode="bilinear", align_corners=False)
    return ours, original


def main_tensor(output: Any) -> Tensor:
    """What a network gives first of all: a tensor as it is, of a mapping its scores or features, else the first.

    Raises:
        InputError: if there is no tensor in it.
    """
    named = output if isinstance(output, Mapping) else {}
    parts = [*(named.get(k) for k in NAMED), *tree_leaves(output)]
    found = next((p for p in parts if isinstance(p, Tensor)), None)
    if found is None:
        raise no_tensor(output)
    return found
