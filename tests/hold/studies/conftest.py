"""The digits, which most studies of this folder read."""

import pytest

import whatwhere as ww
from whatwhere.data import Data


@pytest.fixture(scope="session")
def data() -> Data:
    return ww.load_data("digits")
