"""Class maps as pictures."""

import torch

from whatwhere.say.studies.class_maps import coloured


def test_colours_of_classes():
    found = coloured(torch.tensor([[0, 1, 255]]), [(1, 2, 3)])
    assert found.tolist() == [[[1, 2, 3], [128, 64, 128], [255, 255, 255]]]
