"""Tallies of scores that are of a whole set, such as mIoU: the evidence of every picture in every draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from whatwhere.bootstrap import over_resamples, times_drawn
from whatwhere.intervals import Estimate
from whatwhere.lab.packed import pack_arrays, unpack_arrays
from whatwhere.scores.score import Evidence, Score

Groups: TypeAlias = NDArray[np.integer] | None  # (n,) equal for pictures that belong together; None: each is alone


@dataclass
class SetTally:
    """What a score of a set needs of the pictures at one place.

    Attributes:
        evidence: of each draw, of each picture.
    """

    evidence: list[list[Evidence]]
    _kept: NDArray[np.float64] | None = field(default=None, init=False, compare=False, repr=False)

    def estimate(self, score: Score, groups: Groups = None) -> Estimate:
        """The score of the set, over pictures (or groups of them), which are drawn again, and draws."""
        bounds = (score.low, score.high)
        return over_resamples(self._values(score), self._resampled(score, groups), groups, len(self), bounds)

    def loss(self, intact: SetTally, score: Score, groups: Groups = None) -> Estimate:
        """What was lost against the intact network in the same resamples, positive where the score got worse."""
        values = score.direction * (intact._values(score) - self._values(score))
        resampled = score.direction * (intact._resampled(score, groups) - self._resampled(score, groups))
        return over_resamples(values, resampled, groups, len(self), score.losses)

    def draws(self, score: Score) -> tuple[float, ...]:
        """The score of each draw."""
        return tuple(self._values(score).tolist())

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.evidence[0])

    def _values(self, score: Score) -> NDArray[np.float64]:
        return np.array([score.value(draw) for draw in self.evidence])

    def _resampled(self, score: Score, groups: Groups = None) -> NDArray[np.float64]:
        """(draws, resamples), computed once for the estimate and the loss."""
        if self._kept is None:
            times = times_drawn(np.arange(len(self)) if groups is None else groups)
            self._kept = np.stack([score.resampled(draw, times) for draw in self.evidence])
        return self._kept

    @staticmethod
    def join(parts: Sequence[SetTally]) -> SetTally:
        """One after the other."""
        of_draws = zip(*(p.evidence for p in parts), strict=True)
        return SetTally([[e for batch in draw for e in batch] for draw in of_draws])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a cell."""
        return {"evidence": [pack_arrays(draw) for draw in self.evidence]}

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> SetTally:
        """From a cell's plain values."""
        return SetTally([unpack_arrays(draw) for draw in plain["evidence"]])
