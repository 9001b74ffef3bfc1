"""What padding added, in rows that are written out."""

import math

import pytest
import torch
from torch import nn

from whatwhere.hold.border import padding_pattern
from whatwhere.hold.studies.pattern_plan import plain_row, row_of
from whatwhere.hold.studies.pattern_result import PatternResult, PatternRow


def test_a_pattern_where_features_are_zero_is_infinite_not_none(tmp_path):
    """A convolution that fires at padding only: inside there is nothing to compare it with."""
    conv = nn.Conv2d(1, 1, 3, padding=1)
    nn.init.constant_(conv.weight, -1.0)
    nn.init.constant_(conv.bias, 8.5)
    found = padding_pattern(nn.Sequential(conv, nn.ReLU()), [torch.ones(4, 1, 24, 24)], size=8, margin=8, sites="1")[0]
    loud = row_of("network", plain_row(found))
    weak = PatternRow("network", "weak", 4, 0.01, (0.1, 0.0))
    assert (loud.snr, loud.by_border[:2]) == (None, (None, 0.0))
    result = PatternResult("net", {}, {}, {}, (weak, loud))
    assert "most at 1: signal to noise infinite" in result.conclusion
    assert result.table()[1]["at the border"] == "infinite"
    result.save(tmp_path)
    assert PatternResult.load(tmp_path).rows == result.rows


def rows() -> tuple[PatternRow, ...]:
    return (
        PatternRow("network", "a", 6, 0.5, (0.25, 0.0625, 0.0)),
        PatternRow("network", "b", 6, 2.0, (0.5, 0.125, 0.00012)),
        PatternRow("padding circular", "a", 6, 0.0, (0.0, 0.0, 0.0)),
    )


def test_a_line_for_each_site_with_the_signal_to_noise_of_every_network():
    assert PatternResult("net", {}, {}, {}, rows()).table() == [
        {
            "site": "a",
            "SNR network": "0.5",
            "SNR padding circular": "0",
            "at the border": "0.250",
            "at the centre": "0.0000",
            "pictures": 6,
        },
        {
            "site": "b",
            "SNR network": "2",
            "SNR padding circular": "",
            "at the border": "0.500",
            "at the centre": "0.0001",
            "pictures": 6,
        },
    ]


def test_the_conclusion_is_of_the_networks_own_loudest_site():
    loud = PatternRow("untrained", "a", 6, 9.0, (1.0, 1.0, 1.0))
    assert PatternResult("net", {}, {}, {}, (*rows(), loud)).conclusion == (
        "Padding stands out most at b: signal to noise 2."
    )


def test_nothing_at_all_is_silent_and_something_without_noise_is_infinitely_loud():
    assert PatternRow("n", "a", 6, None, (0.0, 0.0)).loudness == 0.0
    assert PatternRow("n", "a", 6, None, (0.1, 0.0)).loudness == math.inf
    assert PatternRow("n", "a", 6, None, (None, 0.0)).loudness == math.inf
    assert PatternRow("n", "a", 6, 0.7, (0.1, 0.0)).loudness == 0.7


def test_the_figure_ends_a_little_behind_what_can_be_seen():
    far = PatternRow("network", "a", 6, 1.0, (0.5, 0.1, *[0.0] * 20))
    (axes,) = [a for a in PatternResult("net", {}, {}, {}, (far,)).plot().axes if a.get_title(loc="left") == "a"]
    curve = next(line for line in axes.lines if line.get_label() == "network")
    assert list(curve.get_ydata()) == pytest.approx([0.5, 0.1, 0.0, 0.0])
