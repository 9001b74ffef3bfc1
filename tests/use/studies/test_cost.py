"""What recalibration costs before training: counts by hand, lines, page, command."""

import csv

import pytest

import whatwhere as ww
from whatwhere.cli import main
from whatwhere.cost import Cost
from whatwhere.errors import InputError
from whatwhere.studies.recalibration.costs import cost_lines, recalibration_cost

SMALL = {"width": 0.5, "batch": 2, "rounds": 2}


def test_extra_parameters_and_operations_by_hand():
    """Two layers a gate; the first on every scale's cells (1 + 4 + 16), the second on the finest grid."""
    methods = ["se", "ms_sar", "ms_sar-per-cell"]
    found = recalibration_cost("cifar/resnet20", "digits", methods=methods, **SMALL)
    assert list(found) == ["none", *methods]
    channels = [8] * 3 + [16] * 3 + [32] * 3
    se = [(c, max(1, round(c / 16))) for c in channels]
    ours = [(c, max(1, round(c / 32))) for c in channels]
    extra = {
        name: (c.parameters - found["none"].parameters, c.flops - found["none"].flops) for name, c in found.items()
    }
    assert extra["se"] == (sum(2 * c * h + h + c for c, h in se), sum(4 * c * h for c, h in se))
    both = [(3 * c * h + h, c * h + c, 2 * c * h * (1 + 4 + 16), 2 * c * h * 16) for c, h in ours]
    assert extra["ms_sar"] == (sum(a + b for a, b, *_ in both), sum(f + g for *_, f, g in both))
    assert extra["ms_sar-per-cell"] == (sum(a + 16 * b for a, b, *_ in both), extra["ms_sar"][1])
    assert found["ms_sar"].kept_bytes > found["none"].kept_bytes
    assert all(c.latency_ms > 0 for c in found.values())


def test_lines_are_absolute_and_in_per_cent():
    found = {"none": Cost(1000, 2_000_000, 2.0, 4, 500_000), "se": Cost(1100, 2_010_000, 3.0, 4, 600_000)}
    assert cost_lines(found, {"none": 1.0, "se": 1.25})[1] == {
        "method": "se", "parameters": "1,100", "extra": "+100 (+10.00 %)",
        "MFLOPs": "2.01", "extra MFLOPs": "+0.01 (+0.50 %)", "ms a picture": "3.00 (+25.0 %)",
        "MB kept": "0.60", "extra MB": "+0.10 (+20.00 %)",
    }  # fmt: skip


def test_the_command_writes_a_page(tmp_path, capsys):
    main(["recalibration", "--protocol", "cost", "--model", "cifar/resnet20", "--width", "0.25", "--data", "digits",
          "--methods", "eca", "--out", str(tmp_path)])  # fmt: skip
    assert f"open {tmp_path / 'cost' / 'index.html'}" in capsys.readouterr().out
    with (tmp_path / "cost" / "table.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["none", "eca"]
    assert not (tmp_path / "cells").exists()  # nothing was trained


def test_an_unknown_method_is_told():
    with pytest.raises(InputError, match="'ms_saar' matches nothing"):
        ww.recalibration_cost("cifar/resnet20", "digits", methods=["ms_saar"])
