import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.say.leakage import binarised, dropped, permuted


@pytest.fixture
def maps() -> torch.Tensor:
    return torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(0))


def test_binarised_is_one_above_the_threshold_only(maps):
    seen = binarised(maps, 0.3)
    for value, bit in zip(maps.flatten().tolist(), seen.flatten().tolist(), strict=True):
        assert bit == (1.0 if value > 0.3 else 0.0)
    assert (seen.dtype, seen.shape) == (maps.dtype, maps.shape)
    assert binarised(torch.tensor([[0.5]])).item() == 0  # the threshold itself is absent
    assert torch.equal(binarised(seen), seen)


def test_permuted_gives_concept_k_the_map_of_order_k(maps):
    order = torch.tensor([2, 0, 3, 1])
    seen = permuted(maps, order)
    for k in range(4):
        assert torch.equal(seen[:, k], maps[:, order[k]])
    assert torch.equal(permuted(seen, order.argsort()), maps)


def test_dropped_changes_one_concept_of_a_copy(maps):
    before = maps.clone()
    seen = dropped(maps, 1, 0.25)
    assert torch.equal(maps, before)
    assert (seen[:, 1] == 0.25).all()
    assert torch.equal(seen[:, [0, 2, 3]], maps[:, [0, 2, 3]])


def test_pixels_do_as_well_as_maps():
    rows = torch.rand(7, 3)
    assert torch.equal(dropped(rows, 2, 0.0)[:, :2], rows[:, :2])
    assert torch.equal(permuted(rows, torch.tensor([1, 2, 0])), rows[:, [1, 2, 0]])


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4]])
def test_what_is_no_permutation_is_refused(maps, order):
    with pytest.raises(InputError, match="not a permutation of the 4"):
        permuted(maps, torch.tensor(order))


def test_a_concept_that_is_not_there_is_refused(maps):
    for k in (-1, 4):
        with pytest.raises(InputError, match="from 0 to 3"):
            dropped(maps, k, 0.0)
    with pytest.raises(InputError, match="maps"):
        dropped(torch.zeros(3), 0, 0.0)
