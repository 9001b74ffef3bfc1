"""Partitions of maps into cells, against slow loops over positions."""

import numpy as np
import pytest
import torch

from whatwhere.use.partition import between_centres, cell_means, cell_of, cell_sizes, coarser, scaled_by_cells


def which(size, cells, at):
    """The cell j with floor(j · size / cells) <= at, the last of them."""
    return max(j for j in range(cells) if j * size // cells <= at)


def test_every_position_has_one_cell_and_cells_are_nested():
    for size in range(1, 20):
        for cells in (1, 2, 3, 4, 8):
            assert cell_of(size, cells).tolist() == [which(size, cells, i) for i in range(size)]
        assert (cell_of(size, 4) // 2).tolist() == cell_of(size, 2).tolist()


@pytest.mark.parametrize("shape", [(8, 8), (7, 5), (3, 3)])
def test_coarse_means_are_those_of_the_map(shape):
    x = torch.randn(2, 3, *shape)
    torch.testing.assert_close(coarser(cell_means(x, 4), shape, 2), cell_means(x, 2))
    torch.testing.assert_close(coarser(cell_means(x, 4), shape, 1), x.mean((2, 3))[:, None, None])


def test_the_broadcast_product_is_the_plain_one():
    x, gate = torch.randn(2, 3, 8, 4), torch.rand(2, 3, 4, 4)
    plain = x * gate.repeat_interleave(2, 2)
    gate = gate.permute(0, 2, 3, 1)
    torch.testing.assert_close(scaled_by_cells(x, gate), plain)
    last = scaled_by_cells(x.contiguous(memory_format=torch.channels_last), gate)
    torch.testing.assert_close(last, plain)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_cells_of_an_uneven_axis_by_hand():
    """Cell j of 3 starts at floor(7 j / 3): 0, 2, 4; of 4 in three positions one is empty."""
    assert cell_sizes(7, 3) == [2, 2, 3]
    assert cell_of(7, 3).tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert cell_sizes(3, 4) == [0, 1, 1, 1]
    assert cell_of(3, 4).tolist() == [1, 2, 3]


def test_means_of_an_uneven_map_by_hand():
    """Rows 0 | 1 2, columns 0 | 1 2 of 0 ... 8."""
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert cell_means(x, 2)[0, :, :, 0].tolist() == [[0.0, 1.5], [(3 + 6) / 2, (4 + 5 + 7 + 8) / 4]]


def test_an_empty_cell_has_no_mean():
    means = cell_means(torch.ones(1, 1, 3, 8), 4)
    assert means[0, :, :, 0].tolist() == [[0.0] * 4, [1.0] * 4, [1.0] * 4, [1.0] * 4]
    assert coarser(means, (3, 8), 2)[0, :, :, 0].tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 7), (1, 5)])
def test_each_position_is_multiplied_by_its_cell(shape, grad):
    g = torch.Generator().manual_seed(0)
    x, gate = torch.rand(2, 3, *shape, generator=g), torch.rand(2, 2, 2, 3, generator=g)
    with torch.set_grad_enabled(grad):
        found = scaled_by_cells(x, gate)
    for h in range(shape[0]):
        for w in range(shape[1]):
            row, column = (next(j for j in (0, 1) if at < (j + 1) * n // 2) for at, n in ((h, shape[0]), (w, shape[1])))
            torch.testing.assert_close(found[:, :, h, w], x[:, :, h, w] * gate[:, row, column])


def test_between_centres_values_are_bilinear_and_constant_beyond_them():
    """Cells of 1 and 2 columns have their centres at 0.5 and 2: column centres 0.5, 1.5, 2.5 weigh 0, 2/3 and 1."""
    gate = torch.tensor([0.0, 3.0]).view(1, 1, 2, 1).expand(1, 2, 2, 1)
    found = between_centres(gate, (3, 3))
    assert found[0, 0].numpy() == pytest.approx(np.tile([0.0, 2.0, 3.0], (3, 1)))


def test_between_centres_of_even_cells_is_torchs_bilinear():
    gate = torch.rand(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    found = between_centres(gate, (4, 4))
    plain = torch.nn.functional.interpolate(gate.permute(0, 3, 1, 2), size=(4, 4), mode="bilinear")
    assert torch.equal(found, plain)


def test_an_empty_cell_has_no_say_between_centres():
    gate = torch.tensor([100.0, 1.0, 2.0, 3.0]).view(1, 1, 4, 1).expand(1, 4, 4, 1)
    assert between_centres(gate, (4, 3))[0, 0, 0].tolist() == pytest.approx([1.0, 2.0, 3.0])
