"""Seeds: the same one gives the same weights, and the global draws go on as if nothing had been drawn."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from whatwhere.models.seeding import seeded


def build() -> nn.Module:
    return nn.Linear(4, 3)


def test_the_weights_are_those_of_the_seed() -> None:
    g = torch.Generator().manual_seed(7)
    expected = torch.empty(4).uniform_(generator=g)
    drawn = seeded(7, lambda: nn.ParameterList([nn.Parameter(torch.rand(4))]))
    assert torch.equal(next(drawn.parameters()), expected)
    a, b, other = (seeded(s, build).state_dict() for s in (7, 7, 8))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["weight"], other["weight"])


def test_what_was_drawn_before_does_not_count_and_what_comes_after_is_untouched() -> None:
    torch.manual_seed(1)
    first, expected = torch.rand(2), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(2), first)
    seeded(7, build)
    assert torch.equal(torch.rand(3), expected)


def test_the_draws_go_on_after_an_error_too() -> None:
    before = torch.get_rng_state()

    def broken() -> nn.Module:
        torch.rand(5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        seeded(0, broken)
    assert torch.equal(torch.get_rng_state(), before)
