"""Weights from a seed."""

import torch
from torch import nn

from whatwhere.models.seeding import seeded


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, again, other = (seeded(s, lambda: nn.Linear(3, 4)).weight for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(first, nn.Linear(3, 4).weight)
