"""Which surgery a study's method is, and how it is typed."""

from typing import Any

import pytest
import torch

import whatwhere as ww  # noqa: F401
from small_classifier import small_classifier
from whatwhere.need.studies.removals import REMOVALS, call_of, operated, share_left


@pytest.mark.parametrize("method", REMOVALS)
def test_a_call_makes_the_same_network(method: str) -> None:
    net = small_classifier()
    new: Any = operated(net, method, "3", 0).module
    typed: Any = eval(call_of(method, "net", "3")).module
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(new(x), typed(x))
        assert not torch.equal(new(x), net.module(x))


def test_new_weights_are_of_the_seed() -> None:
    net = small_classifier()
    one, two, other = (operated(net, "truncate", "3", s).module.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert {k for k in one if not torch.equal(one[k], other[k])} == {"new_classifier.weight", "new_classifier.bias"}


def test_lines_are_as_one_types_them() -> None:
    assert call_of("pointwise-max", "net", "a") == "ww.need.pointwise(net, 'a', local='max')"
    assert call_of("truncate", "f(1)", "a") == "ww.need.truncate(f(1), 'a')"


def test_what_is_left_behind_a_site() -> None:
    assert [share_left(m) for m in ("gap_fc", "truncate")] == [0, 0]
    assert {share_left(m) for m in REMOVALS if "pointwise" in m} == {1 / 9}
