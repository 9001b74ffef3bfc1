"""A score: what is kept of each picture, what follows from it over a set, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves

from whatwhere.errors import InputError, no_tensor
from whatwhere.training.scores import check_finite_scores

Evidence: TypeAlias = NDArray[np.float64]  # (any length,): all that a score needs of one picture
Needs: TypeAlias = str  # "class labels", "label maps", "boxes", "numbers", or "" for nothing


@dataclass(frozen=True)
class Score:
    """What a network is worth, and how it is said.

    A study calls `evidence` once for each batch and keeps what it gives; everything else follows from that, also in
    another process and on another day. Subclasses are frozen dataclasses at the top of a module, so that workers can
    have them.

    Attributes:
        name: as `score=` takes it, and as a folder knows it.
        label: how tables and figures call it.
        unit: "%", of a share in [0, 1] that is shown in per cent; "" of a number that is shown as it is.
        higher_is_better: which way a network is better. Nothing else says it: a loss is positive where it got worse.
        needs: what the pictures must come with; "", nothing.
        of_intact: it compares with what the intact network gives for the same pictures.
        per_picture: the score of a set is the mean of the pictures', each of which has evidence of one number.
        counted: that number is 1 or 0, right or wrong.
        low: the least it can be.
        high: the most.
        about: behind the label in a sentence: "with the intact network".
    """

    name: str
    label: str
    unit: Literal["%", ""] = ""
    higher_is_better: bool = True
    needs: Needs = ""
    of_intact: bool = False
    per_picture: bool = True
    counted: bool = False
    low: float = -math.inf
    high: float = math.inf
    about: str = ""

    def check(self, outputs: Any, targets: Any) -> None:
        """Refuse outputs of an intact or a collapsed network of which no score would mean anything.

        Args:
            outputs: what it gave for a batch.
            targets: what the pictures come with.

        Raises:
            InputError: if they hold no tensor, or values that are NaN or infinite.
        """
        tensors = [t for t in tree_leaves(outputs) if isinstance(t, Tensor)]
        if not tensors:
            raise no_tensor(outputs)
        for t in tensors:
            if t.is_floating_point() and t.ndim > 1:
                check_finite_scores(t)

    def evidence(self, outputs: Any, targets: Any, intact: Any) -> list[Evidence]:
        """All that `value` needs of each picture of a batch.

        Args:
            outputs: what the network gave for N pictures, as it gave it.
            targets: what the pictures come with, on the device of the outputs: class labels (N,), label maps (N, H, W)
                with 255 where there is none, numbers (N, K), or a list of N mappings with boxes.
            intact: what the intact network gave for the same pictures; None unless `of_intact`.

        Returns:
            N arrays (any length,).

        Raises:
            InputError: for outputs that have no such score.
        """
        raise NotImplementedError

    def value(self, evidence: Sequence[Evidence]) -> float:
        """The score of a set of pictures, in any order and each as often as it is given; NaN where it is not defined.

        Args:
            evidence: of each picture; at least one.
        """
        return float(np.mean(np.concatenate(evidence)))

    def resampled(self, evidence: Sequence[Evidence], times: NDArray[np.integer]) -> NDArray[np.float64]:
        """The score of sets that hold each picture so many times.

        A score whose value can be had of weighted pictures at once does it faster.

        Args:
            evidence: of N pictures.
            times: (B, N) of B sets.

        Returns:
            (B,).
        """
        every = [[e for e, n in zip(evidence, row, strict=True) for _ in range(n)] for row in times.tolist()]
        return np.array([self.value(chosen) for chosen in every])

    @property
    def identity(self) -> str:
        """What tells it from another score, also of the same name: a folder goes on with the same one only."""
        return self.name

    @property
    def direction(self) -> int:
        """1 or -1: what a difference is multiplied with, so that it is positive where a network is better."""
        return 1 if self.higher_is_better else -1

    @property
    def losses(self) -> tuple[float, float]:
        """The least and the largest loss that there can be; against itself the intact network is the best."""
        widest = self.high - self.low
        return (0.0 if self.of_intact else -widest), widest

    @property
    def scale(self) -> float:
        """What a number is multiplied with to be shown."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def points(self) -> str:
        """Behind a difference: " points" of per cent; "" of another number."""
        return " points" if self.unit == "%" else ""

    @property
    def lost(self) -> str:
        """What a sentence calls getting worse."""
        return "loss" if self.higher_is_better else "rise"

    @property
    def phrase(self) -> str:
        """How a sentence calls it."""
        return f"{self.label} {self.about}".strip()

    @property
    def title(self) -> str:
        """The same as a sentence begins with it: "Accuracy", but "mIoU"."""
        first, rest = self.phrase[:1], self.phrase[1:]
        return self.phrase if rest[:1].isupper() else first.upper() + rest

    @property
    def heading(self) -> str:
        """Of a column: "accuracy %"."""
        return f"{self.label} {self.unit}".strip()

    @property
    def axis(self) -> str:
        """Of a figure: "accuracy (%)"."""
        return f"{self.phrase} (%)" if self.unit else self.phrase.rstrip(",")

    def shown(self, x: float, *, sign: bool = False, digits: int = 2) -> str:
        """A number of this score, or a difference of two, as it is shown, without the unit."""
        places = digits if self.unit else digits + 2
        return f"{self.scale * x + 0.0:{'+' if sign else ''}.{places}f}"


def of_pictures(values: ArrayLike | Tensor, what: str) -> list[Evidence]:
    """Evidence of one number for each picture.

    Args:
        values: (N,).
        what: gave them, for the error.

    Raises:
        InputError: if they are not one number for each.
    """
    found = np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, dtype=np.float64)
    if found.ndim != 1:
        raise InputError(f"{what} gives values of shape {found.shape}; expected (N,), one for each picture.")
    return list(found[:, None])
