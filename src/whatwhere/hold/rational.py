"""Ridge solutions of every penalty, from the Cholesky factors of a few: a rational Krylov space.

Eigenvectors give every penalty as well, but take some forty times as long as one factor of 9,000 columns. A factor is
applied several times to the targets; what that spans at a few penalties holds the solutions of those between to a bound
that is computed (Ruhe 1984, Druskin and Simoncini 2011). Where it is not small enough, a further penalty is factored.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

SETTLED = 1e-7  # of a target's variance: the most that predictions of what was fitted differ from the exact ones (m.s.)
SPACED, TIMES = 6, 10  # every how many-th penalty is factored, and how often its factor is applied
ONE_BY_ONE = 500  # columns up to which every penalty has a factor of its own
STRIP = 1_024  # columns that are mirrored at once
ROWS = 128  # that are moved at once
ROUNDS = 20  # of the power method


def solutions(gram: Tensor, cross: Tensor, spread: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
    """Weights for every penalty, and which penalties the rounding of the products allows.

    Args:
        gram: (columns, columns) float64 mean products of standardised columns, contiguous; changed while this runs, and
            given up where some columns are constant.
        cross: (columns, T) float64 mean products of columns and targets.
        spread: (T,) variances of the targets.
        penalties: (P,) ascending.

    Returns:
        (columns, P, T), of no meaning where a penalty is not possible; and (P,) whether it is: at least the rounding of
        the eigenvalues (columns · largest · 2⁻⁵²), and not below one that rounding leaves no Cholesky factor.
    """
    some = gram.diagonal().nonzero().flatten()
    if len(some) < len(gram) or not len(gram):  # the others are constant columns, all of whose products are zero
        weights, possible = cross[:, None] / penalties[:, None], torch.ones_like(penalties, dtype=torch.bool)
        if len(some):
            weights[some], possible = solutions(_of_some(gram, some), cross[some], spread, penalties)
        return weights, possible
    possible = len(gram) * largest(gram) * torch.finfo(torch.float64).eps <= penalties
    if len(gram) <= ONE_BY_ONE:
        found = [_factored(gram, cross, float(p), 1) for p in penalties]
        weights = torch.stack([torch.zeros_like(cross) if each is None else each[0] for each in found], 1)
        return weights, possible & torch.tensor([each is not None for each in found])
    return _Between(gram, cross, spread, penalties, possible).solved()


def _of_some(gram: Tensor, some: Tensor) -> Tensor:
    """Some rows and columns, in order, moved to the front of the matrix's own memory: a copy is as large again.

    What is written ends before the first row that is still to be read, as no row moves back.
    """
    n = len(some)
    moved = gram.view(-1)[: n * n].view(n, n)
    for rows in torch.arange(n).split(ROWS):
        moved[rows[0] : rows[-1] + 1] = gram[some[rows, None], some]
    return moved


def largest(gram: Tensor) -> float:
    """The largest eigenvalue, from below; within some percent where others are near it."""
    x = torch.randn(len(gram), min(4, len(gram)), generator=torch.Generator().manual_seed(0), dtype=gram.dtype)
    for _ in range(ROUNDS):
        x = torch.linalg.qr(gram @ x)[0]
    return float(torch.linalg.eigvalsh(x.T @ gram @ x)[-1])


@dataclass
class _Between:
    """The space of the penalties that were factored, and the solutions in it."""

    gram: Tensor
    cross: Tensor
    spread: Tensor
    penalties: Tensor
    possible: Tensor
    exact: dict[int, Tensor] = field(default_factory=dict)
    spans: list[Tensor] = field(default_factory=list)

    def solved(self) -> tuple[Tensor, Tensor]:
        """Factor penalties until every other one is settled between them; weights, and which penalties are possible."""
        weights = self.cross.new_zeros(len(self.cross), len(self.penalties), self.cross.shape[1])
        at = self.possible.nonzero().flatten().tolist()
        asked = sorted({*at[::SPACED], *at[-1:]})
        while asked:
            for i in asked:
                self._factor(i)
            weights, left = self._inside()
            asked = self._unsettled(left)
        for i, own in self.exact.items():
            weights[:, i] = own
        weights[:, ~self.possible] = 0
        return weights, self.possible

    def _factor(self, i: int) -> None:
        """Take a penalty's space in; one without a factor, and those below it, are too small."""
        found = _factored(self.gram, self.cross, float(self.penalties[i]), TIMES)
        if found is None:
            self.possible[: i + 1] = False
            return
        self.exact[i] = found[0]
        self.spans += [x / x.norm(dim=0).clamp_min(torch.finfo(x.dtype).tiny) for x in found]

    def _inside(self) -> tuple[Tensor, Tensor]:
        """The solutions (columns, P, T) within the space, and bounds of what they miss, (P, T).

        A solution leaves r over; its predictions of what was fitted differ from the exact ones by at most
        |r|² / (4 · penalty) in the mean square.
        """
        space = torch.linalg.qr(torch.cat(self.spans, 1))[0] if self.spans else self.cross[:, :0]
        seen = self.gram @ space
        values, vectors = torch.linalg.eigh((space.T @ seen + seen.T @ space) / 2)
        inner = vectors.T @ (space.T @ self.cross)
        shrunk = inner[:, None] / (values.clamp_min(0)[:, None, None] + self.penalties[:, None])
        within = vectors @ shrunk.flatten(1)
        weights = (space @ within).view(-1, *shrunk.shape[1:])
        over = self.cross[:, None] - (seen @ within).view_as(weights) - self.penalties[:, None] * weights
        return weights, over.square().sum(0) / (4 * self.penalties[:, None])

    def _unsettled(self, left: Tensor) -> list[int]:
        """The possible penalty that is least settled, if any is not; one that was factored is."""
        worst = (left / (SETTLED * self.spread).clamp_min(torch.finfo(left.dtype).tiny)).amax(1)
        worst[~self.possible] = 0
        worst[list(self.exact)] = 0
        return [int(worst.argmax())] if float(worst.amax()) > 1 else []


def _factored(gram: Tensor, cross: Tensor, penalty: float, times: int) -> list[Tensor] | None:
    """(gram + penalty)⁻¹ to the powers 1, 2, ... times cross; None where rounding leaves no Cholesky factor.

    The factor lies in one triangle of the matrix itself, which is then mirrored back: a second one would take as much
    memory again.
    """
    from scipy.linalg import lapack

    diagonal = gram.diagonal().clone()
    gram.diagonal().add_(penalty)
    factor, failed = lapack.dpotrf(gram.numpy().T, lower=1, clean=0, overwrite_a=1)
    found, x = [], cross.numpy()
    for _ in range(0 if failed else times):
        x = lapack.dpotrs(factor, x, lower=1)[0]
        found.append(torch.from_numpy(x))
    _mirror(gram, diagonal)
    return found or None


def _mirror(gram: Tensor, diagonal: Tensor) -> None:
    """Write the triangle below the diagonal over that above it, and the diagonal."""
    for i in range(0, len(gram), STRIP):
        j = i + STRIP
        below = gram[i:j, i:j].tril(-1)
        gram[i:j, i:j] = below + below.T
        gram[i:j, j:] = gram[j:, i:j].T
    gram.diagonal().copy_(diagonal)
