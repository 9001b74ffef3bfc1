"""The recalibration study: paired folds, cost, resuming."""

import numpy as np
import pytest

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.intervals import student
from whatwhere.studies.packed import pack
from whatwhere.studies.recalibration import study as studying
from whatwhere.studies.recalibration.cell import build
from whatwhere.studies.recalibration.study import RecalibrationResult, recalibration_study, verdict

RECIPE = ww.Recipe(epochs=1, batch_size=64, lr=0.02, crop_padding=0, flip=False)
FEW = {"methods": ["se"], "seeds": [0], "recipe": RECIPE, "quiet": True}


@pytest.fixture
def fake(monkeypatch):
    """Cells whose results are known: hits of 20 pictures, drawn by method and seed."""

    def run_cells(cells, run, store, **_):
        for cell in cells:
            rate = {"none": 0.5, "se": 0.6, "ms_sar": 0.9}[cell.config["name"]]
            g = np.random.default_rng([cell.config["seed"], int(10 * rate)])
            hits = (g.random(20) < rate).astype(np.uint8)
            store.save(cell, {"hits": pack(hits), "parameters": 100 + 10 * rate, "flops": 200.0})

    monkeypatch.setattr(studying, "run_cells", run_cells)


def hits(name, seed):
    rate = {"none": 0.5, "se": 0.6, "ms_sar": 0.9}[name]
    return np.random.default_rng([seed, int(10 * rate)]).random(20) < rate


def test_differences_are_paired_by_seed(fake, tmp_path):
    found = recalibration_study(
        "cifar/resnet20", "digits", out=tmp_path, methods=["ms_sar"], seeds=[0, 1, 2], recipe=RECIPE
    )
    gaps = [float(hits("ms_sar", s).mean() - hits("none", s).mean()) for s in range(3)]
    seen = found["ms_sar"].measured["above none"]
    assert seen.mean == pytest.approx(np.mean(gaps))
    assert seen.high - seen.mean == pytest.approx(student(2) * np.std(gaps, ddof=1) / 3**0.5)
    assert found.cost["ms_sar"]["parameters %"] == pytest.approx(100 * (109 / 105 - 1))
    assert RecalibrationResult.load(tmp_path).rows == found.rows
    assert "ms_sar helps" in verdict(found.rows) or "cannot be told" in verdict(found.rows)
    assert "above none" in (tmp_path / "table.csv").read_text()


def test_methods_may_be_added_and_missing_cells_are_told(fake, tmp_path):
    recalibration_study("cifar/resnet20", "digits", out=tmp_path, methods=["se"], seeds=[0], recipe=RECIPE)
    more = recalibration_study(
        "cifar/resnet20", "digits", out=tmp_path, methods=["se", "ms_sar"], seeds=[0], recipe=RECIPE, run=False
    )
    assert [r.name for r in more.rows] == ["none", "se"]
    assert any("ms_sar, seed 0" in n for n in more.notes)


def test_a_real_cell_trains(tmp_path):
    pictures = ww.load_data("digits")
    assert len(pictures.train) >= 64
    found = recalibration_study("cifar/resnet20", "digits", out=tmp_path, width=0.5, **FEW)
    assert [r.name for r in found.rows] == ["none", "se"]
    assert found["se"].measured["accuracy"].n == len(pictures.test)
    assert len(list((tmp_path / "weights").glob("*.safetensors"))) == 2


def test_every_method_starts_from_the_same_weights():
    config = {"model": "cifar/resnet20", "options": {"classes": 10}, "seed": 3, "method": "none", "settings": {}}
    plain = build(config).module.state_dict()
    gated = build({**config, "method": "ms_sar"}).module.state_dict()
    shared = [k for k in plain if k in gated]
    assert len(shared) > 40
    assert all((plain[k] == gated[k]).all() for k in shared)


def test_an_unknown_method_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'ms_sar'"):
        recalibration_study("cifar/resnet20", "digits", out=tmp_path, **{**FEW, "methods": ["mssar"]})
    assert not (tmp_path / "study.json").exists()
