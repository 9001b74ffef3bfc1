"""What recalibration costs before training: counts by hand, lines, page, command, resuming."""

import csv

import pytest

import whatwhere as ww
from small_choice import on_demand
from whatwhere.cli import main
from whatwhere.errors import InputError
from whatwhere.use import Cost, CostResult
from whatwhere.use.studies.cost_plan import CostWorker

SMALL = {"width": 0.5, "batch": 2, "rounds": 2}
MODEL = ("cifar/resnet20", "digits")


def costs(methods, out=None, **how):
    return Cost(*MODEL, methods=methods, **SMALL).run(out, quiet=True, **how)


def test_extra_parameters_and_operations_by_hand():
    """Two layers a gate; the first on every scale's cells (1 + 4 + 16), the second on the finest grid."""
    methods = ["se", "ms_sar", "ms_sar-per-cell"]
    result = costs(methods)
    found = result.costs
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


def test_a_finished_measurement_is_not_repeated(tmp_path, monkeypatch):
    first = costs(("se",), tmp_path)
    assert set(first.slower) == {"none", "se"}
    monkeypatch.setattr(CostWorker, "__call__", lambda *_: pytest.fail("nothing is missing"))
    assert costs(("se",), tmp_path).costs == first.costs
    again = costs(("se",), tmp_path, fold_only=True)
    assert (again.costs, again.slower, again.settings) == (first.costs, first.slower, first.settings)
    stored = ww.load_result(tmp_path)
    assert isinstance(stored, CostResult)
    assert (stored.costs, stored.table(), stored.conclusion) == (first.costs, first.table(), first.conclusion)
    with pytest.raises(InputError, match="without fold_only"):
        costs(("eca",), tmp_path, fold_only=True)


def test_a_folder_of_another_network_is_refused(tmp_path):
    costs(("none",), tmp_path)
    with pytest.raises(InputError, match="another study"):
        Cost(*MODEL, methods=("none",), batch=2, rounds=2, width=0.25).run(tmp_path, quiet=True)


@on_demand
def test_two_processes_count_the_same_even_if_data_is_an_object():
    here = costs(("se",)).costs
    away = Cost(MODEL[0], ww.load_data("digits"), methods=("se",), **SMALL).run(quiet=True, workers=1).costs
    assert {n: (c.parameters, c.flops, c.kept_bytes) for n, c in away.items()} == {
        n: (c.parameters, c.flops, c.kept_bytes) for n, c in here.items()
    }


def test_the_command_writes_a_page(tmp_path, capsys):
    words = f"use cost --model cifar/resnet20 --width 0.25 --data digits --methods eca --out {tmp_path}"
    main(words.split())
    assert f"open {tmp_path / 'index.html'}" in capsys.readouterr().out
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["none", "eca"]
    assert (tmp_path / "cost.png").is_file()
    assert not (tmp_path / "weights").exists()  # nothing was trained


def test_a_device_that_is_not_measured_is_refused():
    with pytest.raises(InputError, match="device='cuda'"):
        costs(("se",), device="cuda")
