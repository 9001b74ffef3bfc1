"""A small segmentation network."""

from collections.abc import Callable

import pytest
from torch import nn

from small_segmenter import small_segmenter


@pytest.fixture
def small() -> Callable[..., nn.Module]:
    return small_segmenter
