"""Solutions from a few Cholesky factors against one solve for each penalty."""

import pytest
import torch

from whatwhere.hold import rational
from whatwhere.hold.rational import SETTLED, largest, solutions
from whatwhere.hold.ridge import PENALTIES

COLUMNS = 600


@pytest.fixture(scope="module")
def problem():
    """Products of nearly collinear columns, whose eigenvalues go from 100 to rounding, and three targets."""
    g = torch.Generator().manual_seed(0)
    mixing = torch.linalg.qr(torch.randn(COLUMNS, COLUMNS, generator=g, dtype=torch.float64))[0]
    x = torch.randn(800, COLUMNS, generator=g, dtype=torch.float64) @ (
        torch.logspace(1, -7, COLUMNS).double()[:, None] * mixing
    )
    x = (x - x.mean(0)) / x.std(0, correction=0)
    y = torch.randn(800, 3, generator=g, dtype=torch.float64) + 3 * x[:, :3]
    y = y - y.mean(0)
    return x.T @ x / 800, x.T @ y / 800, y.square().mean(0)


def missed(gram, cross, weights):
    """Mean squared differences of predictions from those of a solve for each penalty, (P, T)."""
    true = torch.stack(
        [torch.linalg.solve(gram + p * torch.eye(len(gram), dtype=torch.float64), cross) for p in PENALTIES], 1
    )
    off = (weights - true).flatten(1)
    return (off * (gram @ off)).sum(0).view(len(PENALTIES), -1)


@pytest.mark.parametrize(("spaced", "times"), [(6, 10), (30, 1)])
def test_every_penalty_has_the_solution_of_its_own_solve(problem, monkeypatch, spaced, times):
    """Also where the first factors do not settle them, so that further ones are asked for."""
    gram, cross, spread = problem
    monkeypatch.setattr(rational, "SPACED", spaced)
    monkeypatch.setattr(rational, "TIMES", times)
    monkeypatch.setattr(rational, "STRIP", 250)
    made, factored = [], rational._factored
    monkeypatch.setattr(rational, "_factored", lambda *given: made.append(given[2]) or factored(*given))
    changed = gram.clone()
    weights, possible = solutions(changed, cross, spread, PENALTIES)
    assert possible.all()
    assert (missed(gram, cross, weights) <= SETTLED * spread).all()
    assert torch.equal(changed, gram)
    assert len(made) == len(set(made))
    assert (len(made) > 2) if times == 1 else len(made) == 6


def test_a_target_that_varies_little_is_settled_by_its_own_variance(problem, monkeypatch):
    gram, cross, spread = problem
    monkeypatch.setattr(rational, "TIMES", 1)
    small = torch.tensor([1.0, 1e-3, 1e-6], dtype=torch.float64)
    weights, _ = solutions(gram.clone(), cross * small, spread * small**2, PENALTIES)
    assert (missed(gram, cross * small, weights) <= SETTLED * spread * small**2).all()


def test_few_columns_are_solved_one_by_one(problem):
    gram, cross, spread = problem[0][:50, :50].clone(), problem[1][:50], problem[2]
    weights, _ = solutions(gram, cross, spread, PENALTIES)
    assert (missed(gram, cross, weights) <= 1e-16).all()


@pytest.mark.parametrize("columns", [10, COLUMNS])
def test_penalties_without_a_factor_are_left_out(problem, columns):
    """Products whose rounding made an eigenvalue negative."""
    gram, cross, spread = problem[0][:columns, :columns].clone(), problem[1][:columns], problem[2]
    values, vectors = torch.linalg.eigh(gram)
    values[0] = -1e-5
    weights, possible = solutions((vectors * values) @ vectors.T, cross, spread, PENALTIES)
    assert possible.tolist() == [bool(p > 1e-5) for p in PENALTIES]
    assert torch.isfinite(weights).all()
    assert weights[:, possible].abs().amax((0, 2)).all()


@pytest.mark.parametrize("columns", [40, 640])
def test_constant_columns_are_left_out_of_the_factors(problem, monkeypatch, columns):
    """The solutions of the others are theirs alone, and what is constant has no weight."""
    gram, cross, spread = problem
    seen, factored = set(), rational._factored
    monkeypatch.setattr(rational, "_factored", lambda g, *rest: seen.add(len(g)) or factored(g, *rest))
    alive = torch.arange(columns) % 16 != 3
    n = int(alive.sum())
    whole, wanted = torch.zeros(columns, columns, dtype=torch.float64), torch.zeros(columns, 3, dtype=torch.float64)
    whole[alive.nonzero(), alive.nonzero().flatten()] = gram[:n, :n]
    wanted[alive] = cross[:n]
    weights, possible = solutions(whole.clone(), wanted, spread, PENALTIES)
    own, own_possible = solutions(gram[:n, :n].clone(), cross[:n], spread, PENALTIES)
    assert seen == {n}
    assert torch.equal(weights[alive], own)
    assert torch.equal(possible, own_possible)
    assert not weights[~alive].any()
    weights, possible = solutions(torch.zeros(4, 4).double(), torch.zeros(4, 3).double(), spread, PENALTIES)
    assert possible.all()
    assert not weights.any()


def test_products_so_large_that_no_penalty_counts(problem):
    gram, cross, spread = problem
    weights, possible = solutions(1e18 * gram, cross, spread, PENALTIES)
    assert not possible.any()
    assert not weights.any()


def test_the_largest_eigenvalue(problem):
    for gram in (problem[0], torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)):
        assert largest(gram) == pytest.approx(float(torch.linalg.eigvalsh(gram)[-1]), rel=0.02)
