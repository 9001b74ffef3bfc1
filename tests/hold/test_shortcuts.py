"""Shortcuts that follow their branch (whole networks: see test_padding.py)."""

import torch
from torchvision.models.resnet import BasicBlock

from whatwhere.hold.shortcuts import branch_size, centred


def test_centred() -> None:
    x = torch.arange(1.0, 6).expand(1, 1, 5, 5)
    assert centred(x, (5, 2))[0, 0, 0].tolist() == [2, 3]
    assert centred(x, (5, 8))[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5, 0, 0]
    assert centred(x.mT, (3, 5))[0, 0, :, 0].tolist() == [2, 3, 4]


@torch.no_grad()
def test_the_size_of_a_branch_is_what_its_layers_put_out() -> None:
    for stride, padding in ((1, 0), (2, 0), (2, 2), (1, 1)):
        block = BasicBlock(4, 4, stride=stride, downsample=torch.nn.Conv2d(4, 4, 1, stride=stride))
        block.conv1.padding = block.conv2.padding = (padding, padding)
        out = block.conv2(block.conv1(torch.zeros(1, 4, 17, 12)))
        assert branch_size(block, (17, 12)) == tuple(out.shape[2:])
