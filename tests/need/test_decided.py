"""A detector is known by the part that decides, and what needs one position of a map is refused."""

import pytest

from small_detector import trained
from whatwhere.errors import InputError
from whatwhere.models.load import load_model
from whatwhere.need.decided import check_collapsible, deciding
from whatwhere.need.gap_fc import collapse
from whatwhere.need.leftover import NOTHING, left_over
from whatwhere.site_table import list_sites


def test_detectors_decide_and_classifiers_do_not() -> None:
    assert deciding(trained()) is trained().module.get_submodule("decide")
    small = load_model("cifar/resnet20", classes=2, width=0.25)
    assert deciding(small) is None
    check_collapsible(small)
    with pytest.raises(InputError, match="net is a detector: its boxes are those of many positions"):
        collapse(trained(), "backbone.5.0")


def test_what_is_left_behind_a_cut_is_seen_in_what_boxes_are_chosen_from() -> None:
    """With every later map pooled the scores of all positions are equal, so that rounding decides which boxes are kept:
    the boxes differ, and still nothing of *where* is left."""
    net = trained()
    table = list_sites(net, input_size=(3, 64, 64))
    cut = next(s for s in table if s.name == "backbone.3.0")
    assert left_over(net, cut, table) < NOTHING
