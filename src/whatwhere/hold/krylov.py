"""The ridge read-out of many columns: all targets and penalties from one block Krylov space of the design matrix.

Products of all columns cost columns² · positions, and their factors columns³. Here the matrix and its transpose
are applied to a few vectors at a time, which costs columns · positions; the space that they span holds the solutions
of every penalty to a bound that is computed, and the space grows until the bound is small enough (O'Leary 1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whatwhere.errors import InputError
from whatwhere.hold.features import Group
from whatwhere.hold.kept import Design, Kept
from whatwhere.hold.linear import LinearReadOut
from whatwhere.hold.ridge import BELIEVED, PENALTIES

SETTLED = 1e-7  # of a target's variance: the most that a settled prediction's mean squared difference from the exact is
PAUSE, GROWTH = 4, 0.1  # steps between looking at the solutions, and by how much the space grows meanwhile
BELOW = 2  # penalties below the best that are to be settled, and are worse: what is smaller overfits
MOST_VECTORS = 2_000
COARSE = 1e-6  # of the largest eigenvalue: products in float32 do for larger penalties
DEPENDENT = 1e-14  # of the largest eigenvalue: what is left of a block beside that is rounding, and no direction


@dataclass(frozen=True)
class Goals:
    """What is predicted: maps of the pictures to fit, and of those that are held out.

    Attributes:
        fit: (N, T, h, w) for each batch.
        held_out: the same.
    """

    fit: Sequence[Tensor]
    held_out: Sequence[Tensor]

    def divided(self, sets: int) -> list[Goals]:
        """Equally many targets each, in order."""
        fit, held_out = ([g.chunk(sets, 1) for g in maps] for maps in (self.fit, self.held_out))
        return [Goals([g[i] for g in fit], [g[i] for g in held_out]) for i in range(sets)]


def krylov_readout(
    group: Group,
    kernel: int,
    padding: int,
    fit: Kept,
    held_out: Kept,
    goals: Goals,
    sets: int = 1,
    *,
    tiny: bool = True,
) -> LinearReadOut | None:
    """The read-out whose penalty predicts the held-out pictures best, target by target.

    The same objective as `RidgeFit`: the mean squared error plus penalty · |w|² on standardised columns. Products are
    float32 where penalties allow that, else float64; they are added up in float64.

    Args:
        group: what is read together.
        kernel: k of the k x k convolution.
        padding: zeros around the features.
        fit: features of the pictures to fit.
        held_out: features of the pictures that choose the penalty.
        goals: the targets of both.
        sets: of targets that do not share a space, equally many each: those of a control need fewer steps.
        tiny: also where the best penalty is tiny beside the products, as of many untrained networks; that takes
            float64 and a space of many hundreds of directions.

    Returns:
        None where the best penalty is tiny and such are not asked for.

    Raises:
        InputError: if there are no pictures of a kind, or the solution cannot be trusted.
    """
    if not len(fit) or not len(held_out):
        raise InputError(f"{len(fit)} pictures to fit and {len(held_out)} held out: the read-out needs some of each.")
    designs = (Design.of(fit, group.taps, kernel), Design.of(held_out, group.taps, kernel))
    kinds = (torch.float32, torch.float64) if tiny else (torch.float32,)
    parts = goals.divided(sets)
    found = [_chosen(*designs, part, kinds) for part in parts]
    if not tiny and not all(found):
        return None
    inner = [_chosen(designs[0].centre(), designs[1].centre(), part, kinds) for part in parts if kernel > 1]
    if not tiny and not all(inner):
        return None
    if not all([*found, *inner]):
        raise InputError(
            f"no {kernel}x{kernel} read-out of {group.name} can be trusted: losses from its space and from predictions "
            "differ. The features are too large or too small; scale them."
        )
    kernels, biases = zip(*(f.unfolded(kernel) for f in found if f), strict=True)
    return LinearReadOut(
        group,
        kernel,
        padding,
        torch.cat(kernels),
        torch.cat(biases),
        tuple(p for f in found if f for p in PENALTIES[f.at].tolist()),
        tuple(x for f in found if f for x in f.loss.tolist()),
        tuple(x for f in inner or found if f for x in f.loss.tolist()),
        tuple(x for f in found if f for x in f.spread.tolist()),
    )


@dataclass(frozen=True)
class _Found:
    """The chosen solutions: (columns, T) weights on standardised columns, losses of their predictions, penalties."""

    design: Design
    weights: Tensor
    goal: Tensor
    loss: Tensor
    at: Tensor
    spread: Tensor

    def unfolded(self, kernel: int) -> tuple[Tensor, Tensor]:
        """(T, C, k, k) kernels and (T,) biases, on the features as they are."""
        d, flat = self.design, self.weights * self.design.scale[:, None]
        kernels = flat.T.unflatten(1, (kernel * kernel, -1)).transpose(1, 2).unflatten(2, (kernel, kernel)).contiguous()
        return kernels, self.goal - d.mean @ flat - kernels.sum((2, 3)) @ d.shift


def _chosen(design: Design, held_out: Design, goals: Goals, kinds: Sequence[torch.dtype]) -> _Found | None:
    for dtype in kinds:
        found = _Space(design, held_out, goals, dtype).found()
        if found is not None:
            return found
    return None


class _Space:
    """A block Krylov space of the standardised columns' products, and the ridge problem in it."""

    def __init__(self, design: Design, held_out: Design, goals: Goals, dtype: torch.dtype) -> None:
        self.design, self.held_out, self.dtype = design, held_out, dtype
        self.goal = torch.cat([g.double().mean((2, 3)) for g in goals.fit]).mean(0)
        self.fit_goals = [g.double() - self.goal.view(-1, 1, 1) for g in goals.fit]
        self.held_goals = _rows([g.double() - self.goal.view(-1, 1, 1) for g in goals.held_out])  # (T, rows)
        self.spread = _rows(self.fit_goals).square().mean(1)
        self.cross = self._back(self.fit_goals, torch.float64)
        self.basis, (self.new, self.ends) = self.cross[:, :0], _orthonormal(self.cross)
        self.inner = self.seen_inner = self.cross[:0, :0]
        self.seen: list[Tensor] = []  # held-out predictions of each direction, float32

    def _back(self, maps: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        d = self.design
        return d.transposed(maps, dtype) * d.scale[:, None] / d.rows

    def step(self) -> None:
        """Take the newest directions in, and find the next."""
        d, new = self.design, self.new
        scaled = new * d.scale[:, None]
        products = self._back(d.times(scaled, d.mean, self.dtype), self.dtype)
        self.basis = torch.cat([self.basis, new], 1)
        self.inner = _bordered(self.inner, self.basis.T @ products)
        self.seen.append(_rows(self.held_out.times(scaled, d.mean, self.dtype)).float())
        for _ in range(2):  # once more takes off what rounding left
            products = products - self.basis @ (self.basis.T @ products)
        self.new, self.ends = _orthonormal(products, self.basis, float(self.inner.diagonal().amax()))

    def found(self) -> _Found | None:
        """The best solution of every target; None where float32 would not do, or predictions contradict it."""
        while True:
            for _ in range(max(PAUSE, int(GROWTH * len(self.seen)))):
                if self.new.shape[1]:
                    self.step()
            weights, settled, largest = self._solutions()
            losses = self._losses(weights)
            best = losses.argmin(0)
            if self.dtype == torch.float32 and float(PENALTIES[best.amin()]) < COARSE * largest:
                return None
            full = not self.new.shape[1] or self.basis.shape[1] >= MOST_VECTORS
            if full or _reached(losses, settled):
                return self._checked(weights, losses.masked_fill(~settled, torch.inf))

    def _solutions(self) -> tuple[Tensor, Tensor, float]:
        """(m, P, T) weights in the space, which of them are settled (P, T), and the largest eigenvalue.

        What a solution leaves over, r, lies along the next directions; its predictions differ from the exact ones by
        at most |r|² / (4 · penalty) in the mean square.
        """
        values, vectors = torch.linalg.eigh((self.inner + self.inner.T) / 2)
        cross = vectors.T @ (self.basis.T @ self.cross)
        shrunk = cross[:, None] / (values.clamp_min(0)[:, None, None] + PENALTIES[:, None])
        weights = (vectors @ shrunk.flatten(1)).view(shrunk.shape)
        left = torch.einsum("nb,bpt->npt", self.ends, weights[len(weights) - self.ends.shape[1] :]).square().sum(0)
        settled = left / (4 * PENALTIES[:, None]) <= SETTLED * self.spread
        return weights, settled, float(values.amax()) if len(values) else 0.0

    def _losses(self, weights: Tensor) -> Tensor:
        """(P, T) mean squared errors of held-out predictions."""
        seen = torch.cat(self.seen).double()
        self.seen_inner = _bordered(self.seen_inner, seen @ seen[len(self.seen_inner) :].T)
        cross = seen @ self.held_goals.T
        squares = (weights * (self.seen_inner @ weights.flatten(1)).view(weights.shape)).sum(0)
        sums = squares - 2 * (weights * cross[:, None]).sum(0) + self.held_goals.square().sum(1)
        return sums / self.held_goals.shape[1]

    def _checked(self, weights: Tensor, losses: Tensor) -> _Found | None:
        """The best of the settled, if predictions in float64 have the losses that were computed in the space."""
        at, d = losses.argmin(0), self.design
        targets = torch.arange(len(at))
        chosen = self.basis @ weights[:, at, targets]
        predicted = _rows(self.held_out.times(chosen * d.scale[:, None], d.mean, torch.float64))
        loss, believed = (predicted - self.held_goals).square().mean(1), losses[at, targets]
        if not ((believed - loss).abs() <= BELIEVED * loss + 1e-9 * self.spread).all():
            return None
        return _Found(d, chosen, self.goal, loss, at, self.spread)


def _reached(losses: Tensor, settled: Tensor) -> bool:
    """Whether for every target the best settled penalty has worse ones below it that are settled, or none below it."""
    best = losses.masked_fill(~settled, torch.inf).argmin(0)
    below = (best - BELOW).clamp_min(0)
    return bool(settled.gather(0, torch.stack([best, below])).all())


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """(B, rows), of (N, B, h, w) for each batch."""
    return torch.cat([m.transpose(0, 1).flatten(1) for m in maps], 1)


def _bordered(inner: Tensor, new: Tensor) -> Tensor:
    """A symmetric matrix with its last columns (m, b), and the rows that mirror them, put to it."""
    old = len(inner)
    return torch.cat([torch.cat([inner, new[:old].T]), new], 1)


def _orthonormal(block: Tensor, basis: Tensor | None = None, largest: float = 0.0) -> tuple[Tensor, Tensor]:
    """New directions (columns, n) in which a block goes, and how far it does, (B, B), whose squares add up to its own.

    Args:
        block: (columns, B), already orthogonal to the basis.
        basis: (columns, m), orthonormal.
        largest: what directions are small beside; 0 for the block's own largest.
    """
    u, s, vt = torch.linalg.svd(block, full_matrices=False)
    room = len(block) - (0 if basis is None else basis.shape[1])
    keep = (s > DEPENDENT * max(largest, float(s.amax()))) & (torch.arange(len(s)) < room)
    u = u[:, keep]
    if basis is not None:
        u = torch.linalg.qr(u - basis @ (basis.T @ u))[0]
    return u, s[:, None] * vt
