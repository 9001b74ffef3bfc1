"""The recalibration study: paired folds, cost, resuming."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.intervals import student
from whatwhere.recalibration.insert import maker
from whatwhere.studies.packed import pack
from whatwhere.studies.recalibration import study as studying
from whatwhere.studies.recalibration.cell import build
from whatwhere.studies.recalibration.study import RecalibrationResult, recalibration_study, verdict
from whatwhere.studies.recalibration.wider import equal_width

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


@pytest.mark.parametrize("model", ["cifar/bagnet4", "cifar/resnet20"])
def test_wider_has_the_least_width_with_the_parameters_of_ms_sar(model):
    gated = count(ww.recalibrate(ww.load_model(model, classes=10, width=0.5), "ms_sar"))
    width = equal_width(model, 10, 0.5)
    just_less = width - 0.5 / 256
    assert count(ww.load_model(model, classes=10, width=just_less)) < gated
    assert gated <= count(ww.load_model(model, classes=10, width=width)) < 1.15 * gated


def count(net):
    return sum(p.numel() for p in net.module.parameters())


def test_the_wider_cell_is_a_plain_network_and_says_its_width():
    shared = {"model": "cifar/bagnet4", "options": {"classes": 10, "width": 0.5}, "recipe": {}}
    cell = studying.cell_of("wider", 1, shared, {})
    assert cell.config["options"] == {"classes": 10, "width": equal_width("cifar/bagnet4", 10, 0.5)}
    assert shared["options"]["width"] == 0.5
    net = build(cell.config)
    assert not hasattr(net.module, "surgery")
    assert count(net) > count(ww.load_model("cifar/bagnet4", classes=10, width=0.5))


def test_wider_needs_a_network_with_a_width(tmp_path):
    with pytest.raises(InputError, match=r"'wider'.*timm/resnet18 has none"):
        recalibration_study("timm/resnet18", "digits", out=tmp_path, **{**FEW, "methods": ["wider"]})


def test_keys_of_cells_stay_what_they_were():
    """Folders of earlier runs go on only if the keys of their cells do not change."""
    shared = {"model": "cifar/resnet20", "options": {"classes": 10, "width": 1.0}, "recipe": RECIPE.to_dict()}
    keys = [studying.cell_of(name, 0, shared, {"train": "a", "test": "b"}).key for name in ("none", "se", "ms_sar-4")]
    assert keys == ["92c3e064fe4f7730", "9ee6b7aa870a99bc", "2c440249d530c260"]


@pytest.mark.parametrize("name", studying.NAMED)
def test_every_name_makes_a_module_with_its_settings(name):
    method, settings = studying.NAMED[name]
    module = maker(method, settings)(64)
    assert all(getattr(module, key) == value for key, value in settings.items())


@pytest.mark.parametrize("method", ["se", "ms_sar"])
def test_the_identity_variants_start_as_the_plain_network(method):
    shared = {"model": "cifar/resnet20", "options": {"classes": 10, "width": 0.5}, "recipe": {}}
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, identity, half = (
            build(studying.cell_of(name, 0, shared, {}).config).module.eval()(x)
            for name in ("none", f"{method}-identity", method)
        )
    assert torch.equal(identity, plain)
    assert not torch.allclose(half, plain)


def test_an_unknown_method_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'ms_sar'"):
        recalibration_study("cifar/resnet20", "digits", out=tmp_path, **{**FEW, "methods": ["mssar"]})
    assert not (tmp_path / "study.json").exists()


def test_a_later_call_does_not_drop_what_is_finished(fake, tmp_path):
    call = {"out": tmp_path, "recipe": RECIPE, "quiet": True}
    recalibration_study("cifar/resnet20", "digits", methods=["se"], seeds=[0, 1], **call)
    more = recalibration_study("cifar/resnet20", "digits", methods=["ms_sar"], seeds=[0], **call)
    assert {r.name: r.measured["accuracy"].repeats for r in more.rows} == {"none": 2, "ms_sar": 1, "se": 2}
    assert any("Not finished: ms_sar, seed 1" in n for n in more.notes)


def test_a_network_without_places_is_told_before_anything_is_trained(fake, tmp_path):
    with pytest.raises(InputError, match="the network holds no residual block"):
        recalibration_study("cifar/vgg11", "digits", out=tmp_path, width=0.07, **FEW)
    assert not (tmp_path / "cells").exists()
