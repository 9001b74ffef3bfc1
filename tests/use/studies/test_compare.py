"""The comparison: paired folds, cost, cells, resuming, refusals."""

import shutil

import numpy as np
import pytest

import whatwhere as ww
from small_engine import Elsewhere
from whatwhere.arguments import Docs
from whatwhere.errors import InputError
from whatwhere.intervals import over_networks, student
from whatwhere.lab.packed import pack
from whatwhere.use import Compare, CompareResult
from whatwhere.use.insert import OWN
from whatwhere.use.studies import compare_plan as planning
from whatwhere.use.studies.compare_plan import CompareWorker

RECIPE = ww.Recipe(epochs=1, batch_size=64, lr=0.02, crop_padding=0, flip=False)
FEW = {"methods": ("se",), "seeds": (0,), "recipe": RECIPE}


@pytest.fixture
def fake(monkeypatch):
    """Cells whose results are known: hits of 20 pictures, drawn by method and seed; the cells that ran."""
    ran = []

    def run(self, config):
        ran.append((config["name"], config["seed"]))
        found = hits(config["name"], config["seed"]).astype(np.uint8)
        return {"hits": pack(found), "parameters": 100 + 10 * RATES[config["name"]], "flops": 200.0}

    monkeypatch.setattr(CompareWorker, "__call__", run)
    return ran


RATES = {"none": 0.5, "se": 0.6, "ms_sar": 0.9}


def hits(name, seed):
    return np.random.default_rng([seed, int(10 * RATES[name])]).random(20) < RATES[name]


def compared(out, model="cifar/resnet20", how=(), **options):
    return Compare(model, "digits", **{"recipe": RECIPE, **options}).run(out, quiet=True, **dict(how))


def test_differences_are_paired_by_seed(fake, tmp_path):
    found = compared(tmp_path, methods=["ms_sar"], seeds=[0, 1, 2])
    gaps = [float(hits("ms_sar", s).mean() - hits("none", s).mean()) for s in range(3)]
    seen = found["ms_sar"].measured["above none"]
    assert seen.mean == pytest.approx(np.mean(gaps))
    assert seen.fixed[1] - seen.mean == pytest.approx(student(2) * np.std(gaps, ddof=1) / 3**0.5)
    pairs = np.array([hits("ms_sar", s) * 1.0 - hits("none", s) for s in range(3)])
    assert seen == over_networks(pairs, counted=True)
    assert seen.covers == "seeds and test pictures"
    assert "seeds and test pictures" in (tmp_path / "table.csv").read_text()
    assert found.cost["ms_sar"]["parameters %"] == pytest.approx(100 * (109 / 105 - 1))
    assert CompareResult.load(tmp_path).rows == found.rows
    assert "ms_sar helps" in found.conclusion or "makes no significant difference" in found.conclusion
    assert "above none" in (tmp_path / "table.csv").read_text()


def test_methods_may_be_added_and_missing_cells_are_reported(fake, tmp_path):
    compared(tmp_path, methods=["se"], seeds=[0])
    more = compared(tmp_path, methods=["se", "ms_sar"], seeds=[0], how={"fold_only": True})
    assert [r.name for r in more.rows] == ["none", "se"]
    assert any("ms_sar, seed 0" in n for n in more.notes)


def test_finished_cells_are_not_run_again(fake, tmp_path):
    first = compared(tmp_path, **FEW)
    assert fake == [("none", 0), ("se", 0)]
    again = compared(tmp_path, **FEW)
    assert len(fake) == 2
    assert (again.rows, again.cost) == (first.rows, first.cost)
    assert compared(tmp_path, **FEW, how={"fold_only": True}).rows == first.rows


def test_a_folder_of_another_comparison_is_refused(fake, tmp_path):
    compared(tmp_path, **FEW)
    with pytest.raises(InputError, match="another study"):
        compared(tmp_path, **FEW, width=0.5)
    assert len(fake) == 2


def test_nothing_finished_is_an_error_that_says_what_to_do(tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="without fold_only"):
        compared(tmp_path, **FEW, how={"fold_only": True})


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A comparison that was trained, and its folder."""
    out = tmp_path_factory.mktemp("compare")
    return out, compared(out, width=0.25, **FEW)


def test_a_real_cell_trains(real):
    out, found = real
    pictures = ww.load_data("digits")
    assert len(pictures.train) >= 64
    assert [r.name for r in found.rows] == ["none", "se"]
    assert found["se"].measured["accuracy"].n == len(pictures.test)
    assert len(list((out / "weights").glob("*.safetensors"))) == 2


def test_a_network_is_found_again_with_its_weights(real):
    out, found = real
    data = ww.load_data("digits")
    plan = Compare("cifar/resnet20", "digits", width=0.25, **FEW).planned()
    net = plan.worker(ww.Run(out)).network(plan.cell("se", 0).config)
    assert ww.evaluate(net, data).accuracy == pytest.approx(found["se"].values["accuracy"][0])


@pytest.mark.slow
def test_another_process_would_find_the_same(real, tmp_path):
    _, found = real
    assert compared(tmp_path, width=0.25, how={"engine": Elsewhere()}, **FEW).rows == found.rows


def test_weights_may_be_kept_elsewhere(real, tmp_path):
    out, found = real
    shutil.copytree(out / "cells", tmp_path / "out" / "cells")
    shutil.copy(out / "study.json", tmp_path / "out")
    next((tmp_path / "out" / "cells").iterdir()).unlink()
    how = {"weights_folder": tmp_path / "weights"}
    assert compared(tmp_path / "out", width=0.25, how=how, **FEW).rows == found.rows
    assert len(list((tmp_path / "weights" / "weights").iterdir())) == 1


def test_the_help_names_every_method():
    text = Docs.of(Compare).options["methods"]
    words = text.replace(";", " ").replace(",", " ").split()
    assert {"none", "wider", *OWN, *planning.NAMED} <= set(words)


def count(net):
    return sum(p.numel() for p in net.module.parameters())


def test_wider_needs_a_network_with_a_width(tmp_path):
    with pytest.raises(InputError, match=r"'wider'.*timm/resnet18 has none"):
        compared(tmp_path, "timm/resnet18", **{**FEW, "methods": ["wider"]})


def test_an_unknown_method_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'ms_sar'"):
        compared(tmp_path, **{**FEW, "methods": ["mssar"]})
    assert not (tmp_path / "study.json").exists()


def test_a_later_call_does_not_drop_what_is_finished(fake, tmp_path):
    compared(tmp_path, methods=["se"], seeds=[0, 1])
    more = compared(tmp_path, methods=["ms_sar"], seeds=[0])
    assert {r.name: r.measured["accuracy"].repeats for r in more.rows} == {"none": 2, "ms_sar": 1, "se": 2}
    assert any("Not finished: ms_sar, seed 1" in n for n in more.notes)


def test_a_network_without_places_is_refused_before_anything_is_trained(fake, tmp_path):
    with pytest.raises(InputError, match="the network holds no residual block"):
        compared(tmp_path, "cifar/vgg11", width=0.07, **FEW)
    assert not (tmp_path / "cells").exists()
