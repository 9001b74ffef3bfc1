"""The joint study: cells against direct calls, folds against slow loops, resuming, refusals."""

import shutil

import numpy as np
import pytest

import whatwhere as ww
from small_engine import Elsewhere
from small_joint import LOOK, SITES, SMALL, cell, joint
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold import Readout
from whatwhere.lab.packed import pack
from whatwhere.models.weights import load_weights, read_tensors
from whatwhere.need import Curve
from whatwhere.use import CompareResult, Joint, JointResult
from whatwhere.use.studies.compare_plan import CompareWorker
from whatwhere.use.studies.joint_cell import JointWorker
from whatwhere.use.studies.joint_plan import JointPlan
from whatwhere.use.studies.joint_result import MEAN


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """One trained and measured study that the tests of a real run share."""
    out = tmp_path_factory.mktemp("joint")
    return out, joint(out)


def network(name, weights=None):
    """Built beside the study: the plain network of seed 0, or a recalibrated one."""
    net = ww.load_model("cifar/resnet20", classes=10, width=0.5, seed=0)
    net = net if name == "none" else ww.use.recalibrate(net, name, seed=0)
    if weights is not None:
        load_weights(net.module, weights)
    return net


def weights_of(out, name):
    """The weights whose tensors fit: the plain network has no gates."""
    files = sorted((out / "weights").glob("*.safetensors"))
    gated = [any("gate" in k for k in read_tensors(f)) for f in files]
    return next(f for f, g in zip(files, gated, strict=True) if g == (name != "none"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none", "ms_sar"])
def test_a_cell_is_what_the_two_instruments_say(real, name):
    out, found = real
    data = ww.load_data("digits")
    how = {
        "sites": SITES,
        "targets": ("H", "G"),
        "pictures": 12,
        "test_pictures": 5,
        "untrained": 0,
        "paddings": (),
        "blanks": (),
    }
    trained, fresh = network(name, weights_of(out, name)), network(name)
    held, before = (Readout(net, data, **how).run(quiet=True) for net in (trained, fresh))
    few = Data("digits", {"test": data.test.take(20)})
    need = Curve(trained, few, methods=("per-channel",), sites=SITES, repeats=2).run(quiet=True)
    intact = need.intact[0].accuracy.mean
    lost = {p.site: (intact - p.accuracy.mean) / intact if intact else 0 for p in need.points}
    for site in SITES:
        row = found.at(name, site).measured
        spc = {r.target: r.spc.mean for r in held.of(site=site, inputs="pictures")}
        assert row["SPC H"].mean == spc["H"]
        assert row["SPC"].mean == pytest.approx((spc["H"] + spc["G"]) / 2)
        assert row["SPC untrained"].mean == pytest.approx(
            np.mean([r.spc.mean for r in before.of(site=site, inputs="pictures")])
        )
        assert row["lost"].mean == pytest.approx(lost[site])
        assert (row["SPC"].n, row["lost"].n) == (5, 20)
    assert found.at(name, "intact").measured["accuracy"].mean == intact
    assert (
        found.at(name, "rgb").measured["SPC H"].mean == held.of(site="rgb", target="H", inputs="pictures")[0].spc.mean
    )


def test_finished_cells_are_not_run_again(real, monkeypatch):
    out, found = real
    cells = sorted((out / "joint" / "cells").iterdir())
    assert len(cells) == 2
    lost = cells[0].read_text()
    cells[0].unlink()  # as after a kill
    before = cells[1].stat().st_mtime_ns
    assert joint(out).rows == found.rows
    assert '"joint"' in lost
    assert cells[0].exists()
    assert cells[1].stat().st_mtime_ns == before
    for worker in (JointWorker, CompareWorker):
        monkeypatch.setattr(worker, "__call__", lambda *_: pytest.fail("nothing is missing"))
    assert joint(out).rows == found.rows
    assert joint(out, how={"fold_only": True}).rows == found.rows


@pytest.mark.slow
def test_another_process_would_find_the_same(real, tmp_path):
    out, found = real
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "joint")
    assert joint(tmp_path / "out", how={"engine": Elsewhere()}).rows == found.rows


def test_one_seed_gives_no_answer(real):
    out, found = real
    assert (
        "ms_sar was trained with one seed, which cannot show a difference in the position it holds" in found.conclusion
    )
    assert "[" not in found.conclusion  # no interval
    assert found.differences()[0]["SPC: single sites with more, with less"] == ""
    assert " more position" not in found.conclusion
    assert any("one seed" in n for n in found.notes)
    stored = ww.load_result(out / "joint")
    assert isinstance(stored, JointResult)
    assert (stored.rows, stored.conclusion, stored.table()) == (found.rows, found.conclusion, found.table())
    assert {"index.html", "table.csv", "joint.png", "study.json"} <= {p.name for p in (out / "joint").iterdir()}
    assert Joint("cifar/resnet20", "digits").planned().page(ww.Run(out)) == out / "joint" / "index.html"


def test_another_look_is_refused_and_the_comparison_stays(real):
    out, _ = real
    with pytest.raises(InputError, match="another study"):
        joint(out, repeats=3)
    assert CompareResult.load(out).settings["methods"] == ["none", "ms_sar"]


def test_weights_that_are_gone_are_refused_with_the_way_out(real, tmp_path):
    out, _ = real
    cell = next((out / "joint" / "cells").iterdir())
    kept = cell.read_text()
    cell.unlink()
    try:
        with pytest.raises(InputError, match="trains that network again"):
            joint(out, how={"weights_folder": tmp_path})
    finally:
        cell.write_text(kept)


@pytest.fixture
def quick(monkeypatch):
    """Training and measuring take no time; only plain networks can be measured until `all` is set."""
    measured = {"all": False}

    def trained(self, config):
        self.weights(config).parent.mkdir(parents=True, exist_ok=True)
        self.weights(config).touch()
        return {"hits": pack(np.ones(4, dtype=np.uint8)), "parameters": 1, "flops": 1}

    def looked(self, config):
        if config["network"]["name"] != "none" and not measured["all"]:
            raise InputError("not yet")
        return cell(config["network"]["seed"])

    monkeypatch.setattr(CompareWorker, "__call__", trained)
    monkeypatch.setattr(JointWorker, "__call__", looked)
    monkeypatch.setattr(JointPlan, "look", LOOK)
    monkeypatch.setattr(JointPlan, "shares", {"a": 1.0, "b": 0.5})
    return measured


def test_methods_may_be_missing(quick, tmp_path):
    """The fold lists the networks that are not measured yet."""
    with pytest.raises(InputError, match="not yet"):
        joint(tmp_path, seeds=(0, 1))
    found = joint(tmp_path, seeds=(0, 1), how={"fold_only": True})
    assert found.methods == ["none"]
    assert any("ms_sar, seed 1" in n for n in found.notes)


def test_networks_of_earlier_comparisons_are_measured_too(quick, tmp_path):
    quick["all"] = True
    compared = Joint("cifar/resnet20", "digits", **{**SMALL, "methods": ("se",), "seeds": (0, 1)}).planned().before()
    compared.run(tmp_path, quiet=True)
    found = joint(tmp_path)
    assert found.methods == ["none", "ms_sar", "se"]
    assert found.at("se", MEAN).measured["lost"].repeats == 2
    assert any("Not finished: ms_sar, seed 1" in n for n in found.notes)
