"""The joint study: cells against direct calls, folds against slow loops, resuming, refusals."""

import re
import shutil

import numpy as np
import pytest

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold import Readout
from whatwhere.intervals import over_networks, student
from whatwhere.lab.cells import Cell
from whatwhere.lab.packed import pack, pack_scores
from whatwhere.models.weights import load_weights, read_tensors
from whatwhere.need import Curve
from whatwhere.use import CompareResult, Joint, JointResult
from whatwhere.use.studies import joint_cell
from whatwhere.use.studies.compare_plan import CompareWorker
from whatwhere.use.studies.joint_cell import JointWorker, Look
from whatwhere.use.studies.joint_plan import JointPlan, depths
from whatwhere.use.studies.joint_result import MEAN, above
from whatwhere.use.studies.joint_rows import lost, measures, pictured, rows_of

RECIPE = ww.Recipe(epochs=1, batch_size=64, lr=0.02, crop_padding=0, flip=False)
SITES = ["layers.0.2", "layers.2.2"]
SMALL = {
    "methods": ("ms_sar",),
    "seeds": (0,),
    "recipe": RECIPE,
    "width": 0.5,
    "sites": SITES,
    "targets": ("H", "G"),
    "pictures": 12,
    "test_pictures": 5,
    "repeats": 2,
    "limit": 20,
}


def joint(out, model="cifar/resnet20", how=(), **options):
    return Joint(model, "digits", **{**SMALL, **options}).run(out, quiet=True, **dict(how))


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


def test_a_gate_that_does_nothing_changes_neither_answer():
    """The control of both instruments: the same function must hold and need the same."""
    plain = network("none")
    idle = ww.use.recalibrate(plain, "ms_sar", identity_init=True)
    data, look = ww.load_data("digits"), Look(tuple(SITES), ("H", "G"), 12, 5, 2, 20)
    assert joint_cell.held(idle, data, look) == joint_cell.held(plain, data, look)
    assert joint_cell.kept(idle, data, look) == joint_cell.kept(plain, data, look)


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
def test_another_process_finds_the_same(real, tmp_path):
    out, found = real
    shutil.copytree(out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "joint")
    assert joint(tmp_path / "out", how={"workers": 1}).rows == found.rows


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"targets": ["Q"]}, "targets='Q'"),
        ({"sites": ["layer9"]}, "layer9"),
        ({"sites": ["rgb"]}, "raw input alone"),
        ({"limit": 0}, "limit=0"),
        ({"methods": ["mssar"]}, "Did you mean 'ms_sar'"),
        ({"how": {"fold_only": True}}, "leave fold_only out"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_trained(wrong, message, tmp_path):
    with pytest.raises(InputError, match=message):
        joint(tmp_path, **wrong)
    assert not (tmp_path / "weights").exists()


def test_a_network_without_blocks_is_refused(tmp_path):
    with pytest.raises(InputError, match="no residual and no dense block"):
        joint(tmp_path, "cifar/vgg11", sites=None)


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("resnet20", "layers.0.0", "layers.2.2", 9),
        ("resnet56", "layers.0.0", "layers.2.8", 12),
        ("densenet40", "features.denseblock1", "features.denseblock3", 3),
    ],
)
def test_depths_that_are_chosen_are_in_the_recalibrated_network_too(name, first, last, count):
    net = ww.load_model(f"cifar/{name}", classes=10, width=0.5)
    chosen = depths(net, ww.sites(net))
    assert (chosen[0], chosen[-1], len(set(chosen))) == (first, last, count)
    assert set(chosen) <= {s.name for s in ww.sites(ww.use.recalibrate(net, "ms_sar"))}


# ---- folding, with cells whose numbers are known


LOOK = Look(("a", "b"), ("H", "V"))
MORE = {"gain": 1.5, "loss": 0.6}


def cell(seed, gain=0.0, loss=0.0):
    g = np.random.default_rng(seed)
    spc = {t: {s: float(g.random() / 2 + gain) for s in LOOK.sites} | {"rgb": 0.1} for t in LOOK.targets}
    fresh = {t: {s: float(g.random()) for s in LOOK.sites} | {"rgb": 0.1} for t in LOOK.targets}
    accuracy = {"intact": 0.9, **{s: float(g.random() / 10 + 0.7 - loss) for s in LOOK.sites}}
    return {"held": {"spc": spc, "n": 7}, "untrained": {"spc": fresh, "n": 7}, "kept": {"accuracy": accuracy, "n": 11}}


def folded(**more):
    found = {("none", s): cell(s) for s in range(3)} | {("se", s): cell(s + 10, **more) for s in range(3)}
    rows = [r for n in ("none", "se") for r in rows_of(n, [0, 1, 2], found, LOOK)]
    settings = {"look": LOOK.to_dict(), "depth_shares": {"a": 1.0, "b": 0.5}, "model": "m"}
    return found, JointResult(tuple(rows), {"name": "d"}, settings)


def test_differences_are_paired_by_seed():
    found, result = folded()
    gaps = {"SPC": [], "lost": []}
    for s in range(3):
        ours, twin = found["se", s], found["none", s]
        gaps["SPC"].append(sum(ours["held"]["spc"][t]["b"] - twin["held"]["spc"][t]["b"] for t in "HV") / 2)
        gaps["lost"].append(
            (twin["kept"]["accuracy"]["b"] - ours["kept"]["accuracy"]["b"]) / 0.9
        )  # both are 0.9 intact
    for measure, expected in gaps.items():
        seen = result.at("se", "b").measured[above(measure)]
        assert seen.mean == pytest.approx(np.mean(expected))
        assert seen.high - seen.low == pytest.approx(2 * student(2) * np.std(expected, ddof=1) / 3**0.5)
        assert result.at("se", "b").values[above(measure)] == pytest.approx(expected)
    over = result.at("se", MEAN).values["lost"]
    assert over[1] == pytest.approx(1 - sum(found["se", 1]["kept"]["accuracy"][s] for s in "ab") / 1.8)
    assert result.at("se", "b").measured["SPC"].n == 7
    assert result.at("se", "b").measured[above("lost")].n == 11


def pictured_cell(seed):
    """As `cell`, with what every picture shows."""
    g = np.random.default_rng(seed)
    scores = {k: {t: {s: g.random(7, np.float32) for s in (*LOOK.sites, "rgb")} for t in "HV"} for k in "tu"}
    hits = {"intact": g.random(11) < 0.9, **{s: g.integers(0, LOOK.repeats + 1, 11) for s in LOOK.sites}}
    held, fresh = (
        {
            "spc": {t: {s: float(v.astype(float).mean()) for s, v in of.items()} for t, of in scores[k].items()},
            "n": 7,
            "scores": {t: {s: pack_scores(v) for s, v in of.items()} for t, of in scores[k].items()},
        }
        for k in "tu"
    )
    share = {s: float(np.mean(h / (1 if s == "intact" else LOOK.repeats))) for s, h in hits.items()}
    kept = {"accuracy": share, "n": 11, "hits": {s: pack(np.asarray(h, np.uint8)) for s, h in hits.items()}}
    return {"held": held, "untrained": fresh, "kept": kept}


def test_pictures_have_the_means_that_networks_have():
    found = pictured_cell(0)
    for site in ("rgb", *LOOK.sites, MEAN, "intact"):
        means, pictures = measures(found, site, LOOK), pictured(found, site, LOOK)
        assert pictures.keys() == means.keys()
        for measure, of in pictures.items():
            assert of.mean() == pytest.approx(means[measure]), (site, measure)


def test_the_share_lost_is_linear_around_its_means():
    """By brute force: one picture more or less moves the ratio as its part says."""
    g = np.random.default_rng(0)
    right, intact = g.random(4000), (g.random(4000) < 0.9) * 1.0
    parts = lost(right, intact)
    without = np.array([1 - np.delete(right, i).mean() / np.delete(intact, i).mean() for i in range(20)])
    ratio = 1 - right.mean() / intact.mean()
    assert parts.mean() == pytest.approx(ratio)
    assert 4000 * ratio - 3999 * without == pytest.approx(parts[:20], abs=1e-3)
    assert not lost(right, np.zeros(4000)).any()


def test_intervals_are_over_seeds_and_pictures_where_cells_hold_them():
    found = {(n, s): pictured_cell(s + 10 * (n == "se")) for n in ("none", "se") for s in range(3)}
    row = next(r for r in rows_of("se", [0, 1, 2], found, LOOK) if r.name == "se at b")
    own, twin = ([pictured(found[n, s], "b", LOOK) for s in range(3)] for n in ("se", "none"))
    expected = np.array([a["SPC"] - b["SPC"] for a, b in zip(own, twin, strict=True)])
    assert row.measured[above("SPC")] == over_networks(expected, counted=False, low=-2.0, high=2.0)
    assert row.measured[above("lost")].covers == "seeds and test pictures"
    means_only = folded()[1].at("se", "b").measured[above("SPC")]  # cells of the first version
    assert means_only.covers == "seeds, on these test pictures"


def test_conclusion_says_more_less_or_that_there_is_no_significant_difference():
    more, less, same = (folded(**given)[1] for given in (MORE, {"gain": -1.5, "loss": -0.6}, {}))
    assert "se holds more position (SPC +" in more.conclusion
    assert "It needs more spatial information" in more.conclusion
    assert "se holds less position (SPC -" in less.conclusion
    assert "It needs less spatial information" in less.conclusion
    assert "se shows no significant difference in the position it holds" in same.conclusion
    assert same.conclusion.startswith("Compared with the plain network of the same seed, mean over 2 depths: se ")


def test_a_sentence_has_one_number_with_its_interval():
    """The rest stands in the table below the conclusion."""
    result = folded(**MORE)[1]
    sentences = re.split(r"(?<=\.) (?=[A-Z])", result.conclusion.partition(": ")[2])
    assert [len(re.findall(r"[+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\]", s)) for s in sentences] == [1, 1]
    assert all(len(re.findall(r"\d+\.\d+", s)) == 3 for s in sentences)


def test_the_table_below_the_conclusion_holds_what_it_rests_on():
    result = folded(**MORE)[1]
    (line,) = result.differences()
    mean = result.at("se", MEAN).measured
    assert line["SPC: single sites with more, with less"] == "2, 0"
    assert line["lost: single sites with more, with less"] == "2, 0"
    for measure in ("SPC", "SPC untrained"):
        e = mean[above(measure)]
        assert line[above(measure)] == f"{e.mean:+.3f} [{e.low:+.3f}, {e.high:+.3f}]"
    e = mean[above("lost")]
    assert line[f"{above('lost')} %"] == f"{100 * e.mean:+.2f} [{100 * e.low:+.2f}, {100 * e.high:+.2f}]"
    assert result.report().conclusion_table == [line]


def test_figure_has_both_questions_over_the_same_depths():
    found, result = folded()
    figure = result.plot()
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim()
    assert [t.get_text() for t in left.get_xticklabels()] == ["rgb", "a", "b"]
    drawn = [{h.get_label(): list(h.get_xdata()) for h in at.get_lines()} for at in (left, right)]
    assert drawn[0]["se"] == [0, 1, 2]
    assert drawn[1]["se"] == [1, 2]
    kept = next(h.get_ydata() for h in right.get_lines() if h.get_label() == "se")
    assert kept[0] == pytest.approx(
        100 * np.mean([c["kept"]["accuracy"]["a"] / 0.9 for (n, _), c in found.items() if n == "se"])
    )
    assert "none, untrained" in drawn[0]
    assert "none, untrained" not in drawn[1]
    line = next(r for r in result.table() if (r["method"], r["site"]) == ("se", "a"))
    assert line["share %"] == "100"
    assert line["SPC above none"].startswith(("+", "-"))


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


def test_a_network_that_is_never_right_has_nothing_to_lose():
    wrong = {**cell(0), "kept": {"accuracy": {"intact": 0.0, "a": 0.0, "b": 0.1}, "n": 11}}
    assert measures(wrong, "b", LOOK)["lost"] == 0


def test_a_look_survives_its_cell():
    assert Look.from_dict(Cell({"look": LOOK.to_dict()}).config["look"]) == LOOK
