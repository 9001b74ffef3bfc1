"""The test-time curve against the plain path: one full forward pass for each cut and draw, with public pieces only."""

import json

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import whatwhere as ww
from small_engine import Elsewhere
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.lab import parts
from whatwhere.models.weights import save_weights
from whatwhere.need.cuts import cuts_of
from whatwhere.need.studies import chunk, curve_plan, curve_worker


def test_gap_fc_is_the_collapsed_network(trained, digits):
    curve = ww.need.curve(trained, digits, methods=["gap_fc"], quiet=True)
    assert {p.site for p in curve.points} == {s.name for s in cuts_of(ww.sites(trained))}
    for p in curve.points[:2]:
        small = ww.need.collapse(trained, p.site)
        assert p.accuracy.mean == pytest.approx(ww.evaluate(small, digits).accuracy)


def test_drop_is_paired_with_the_intact_network(trained, digits):
    curve = ww.need.curve(trained, digits, methods=["shared"], repeats=2, quiet=True)
    intact = ww.evaluate(trained, digits).accuracy
    for p in curve.points:
        assert p.drop is not None
        assert p.drop.mean == pytest.approx(intact - p.accuracy.mean)
        assert p.drop.low <= p.drop.mean <= p.drop.high


def test_reach_of_one_removes_at_one_cut_only(trained, digits):
    site = cuts_of(ww.sites(trained))[2].name
    curve = ww.need.curve(trained, digits, methods=["mean"], sites=[site], reach=1, quiet=True)
    with ww.need.pool(trained, site):
        assert curve.points[0].accuracy.mean == pytest.approx(ww.evaluate(trained, digits).accuracy)


def test_network_is_left_as_it_was(trained, digits):
    before = {k: v.clone() for k, v in trained.module.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m)) for m in trained.module.modules()]
    ww.need.curve(trained, digits, repeats=2, quiet=True)
    assert all(torch.equal(v, before[k]) for k, v in trained.module.state_dict().items())
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in vars(m)) for m in trained.module.modules()
    ]


def test_interrupted_curve_goes_on_and_gives_the_same(trained, digits, tmp_path, monkeypatch):
    options = {"methods": ["per-channel"], "repeats": 3, "batch_size": 10, "quiet": True}
    whole = ww.need.curve(trained, digits, **options)
    real, calls = curve_worker.measure, []

    def stopping(what, split, rows, draws, **options):
        calls.append(rows)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(what, split, rows, draws, **options)

    monkeypatch.setattr(curve_worker, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        ww.need.curve(trained, digits, out=tmp_path, **options)
    again = ww.need.curve(trained, digits, out=tmp_path, **options)
    assert calls.count(range(0, 20)) == 1, "the finished chunk was run again"
    assert again.points == whole.points


class Killed(BaseException):
    """As by kill -9: nothing runs that could still save something."""


OFTEN = {"methods": ["per-channel", "mean", "gap_fc"], "sites": ["features.11", "features.15"], "repeats": 3}


def killed_after(monkeypatch, draws: int) -> None:
    """The process dies after some draws; what is finished was written a moment ago."""
    monkeypatch.setattr(parts, "EVERY", 0.0)
    monkeypatch.setattr(parts.Parts, "__exit__", lambda *_: None)
    real, left = chunk.packed, [draws]

    def dying(*args):
        if not left[0]:
            raise Killed
        left[0] -= 1
        return real(*args)

    monkeypatch.setattr(chunk, "packed", dying)


def test_a_curve_that_is_killed_again_and_again_ends_with_the_same_numbers(trained, digits, tmp_path):
    options = {**OFTEN, "batch_size": 40, "quiet": True}
    whole = ww.need.curve(trained, digits, out=tmp_path / "whole", **options)
    for _ in range(60):
        with pytest.MonkeyPatch.context() as patch:
            killed_after(patch, draws=3)
            try:
                again = ww.need.curve(trained, digits, out=tmp_path / "killed", **options)
                break
            except Killed:
                pass
    else:
        pytest.fail("it never ends")
    assert (again.points, again.intact, again.notes) == (whole.points, whole.intact, whole.notes)
    cells = [
        {f.name: json.loads(f.read_text())["result"] for f in (tmp_path / which / "cells").iterdir()}
        for which in ("whole", "killed")
    ]
    assert cells[0] == cells[1]
    assert not list((tmp_path / "killed" / "checkpoints").iterdir()), "finished cells need no parts"


def test_no_draw_is_made_twice(trained, digits, tmp_path, monkeypatch):
    options = {"methods": ["per-channel"], "sites": ["features.11"], "repeats": 3, "batch_size": 40, "quiet": True}
    with monkeypatch.context() as patch:
        killed_after(patch, draws=6)  # the first batch: 3 draws, intact; of the second two draws
        with pytest.raises(Killed):
            ww.need.curve(trained, digits, out=tmp_path, **options)
    made, real = [], chunk.Removals.removal
    monkeypatch.setattr(chunk.Removals, "removal", lambda *a: made.append(a[3:]) or real(*a))
    ww.need.curve(trained, digits, out=tmp_path, **options)
    assert [m for m in made[1:] if m[1] < 2] == [(2, 1)]  # made[0] looks where a removal begins


def test_parts_of_another_study_in_the_same_folder_count_for_nothing(trained, digits, tmp_path, monkeypatch):
    options = {"methods": ["per-channel"], "sites": ["features.11"], "repeats": 2, "quiet": True}
    with monkeypatch.context() as patch:
        killed_after(patch, draws=1)
        with pytest.raises(Killed):
            ww.need.curve(trained, digits, seed=1, out=tmp_path, **options)
    assert list((tmp_path / "checkpoints").iterdir())
    other = ww.need.curve(trained, digits, seed=2, out=tmp_path, **options)  # no cell is finished: it may be reused
    assert other.points == ww.need.curve(trained, digits, seed=2, **options).points


def test_another_measurement_in_the_same_folder_is_refused(trained, digits, tmp_path):
    ww.need.curve(trained, digits, methods=["mean"], out=tmp_path, quiet=True)
    with pytest.raises(InputError, match=r"another study[\s\S]*seed: 0 there, 1 now"):
        ww.need.curve(trained, digits, methods=["mean"], seed=1, out=tmp_path, quiet=True)


def test_saved_result_reads_back(trained, digits, tmp_path):
    curve = ww.need.curve(trained, digits, methods=["mean", "gap_fc"], out=tmp_path, quiet=True)
    assert ww.need.NeedResult.load(tmp_path).points == curve.points
    assert {p.name for p in tmp_path.iterdir()} >= {"result.json", "table.csv", "curve.svg", "curve.png", "index.html"}
    assert "No removal by GAP+FC is sure to stay within a loss of 1.0 points" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
def test_early_stop_keeps_the_interval(trained, digits):
    options = {"methods": ["per-channel"], "repeats": 10, "batch_size": 10, "quiet": True}
    full = ww.need.curve(trained, digits, **options)
    stopped = ww.need.curve(trained, digits, tolerance=0.05, **options)
    for a, b in zip(stopped.points, full.points, strict=True):
        assert a.drop.half_width <= 1.15 * b.drop.half_width  # 150 pictures: the width itself is uncertain
    assert {len(p.values) for p in full.points} == {10}
    assert min(len(p.values) for p in stopped.points) < 10


def test_where_shuffling_ends_again_no_depth_is_recommended(trained, digits):
    curve = ww.need.curve(trained, digits, methods=["mean"], reach=1, within=1.0, quiet=True)
    assert curve.recommendation is None


def test_advice_without_a_smaller_network_keeps_the_curve(trained, digits, monkeypatch, tmp_path):
    def refuses(net, site):
        raise InputError("cannot be collapsed")

    monkeypatch.setattr(curve_plan, "collapse", refuses)
    curve = ww.need.curve(trained, digits, methods=["mean"], within=1.0, out=tmp_path, quiet=True)
    assert "cannot be collapsed" in curve.recommendation.text
    assert curve.recommendation.after is None
    assert (tmp_path / "result.json").exists()


def test_a_folder_of_the_same_weights_with_other_padding_is_refused(trained, digits, tmp_path):
    plain = ww.Network(trained.module)
    wrapped = ww.Network(ww.hold.with_padding(trained.module, "circular"))
    ww.need.curve(plain, digits, methods=["mean"], out=tmp_path, quiet=True)
    with pytest.raises(InputError, match="layers"):
        ww.need.curve(wrapped, digits, methods=["mean"], out=tmp_path, quiet=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_of_another_precision_run(digits, dtype):
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    net.module.to(dtype)
    some = Data("digits", {"test": digits.test.take(20)})
    intact = ww.need.curve(net, some, methods=["mean"], sites="features.0", quiet=True).intact[0].accuracy.mean
    assert intact == pytest.approx(ww.evaluate(net, some).accuracy)


def test_a_network_at_chance_gets_no_advice_and_a_note(digits):
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    curve = ww.need.curve(net, digits, methods="mean", quiet=True)
    assert "not above chance" in curve.recommendation.text
    assert "random weights" in curve.notes[0]
    with torch.no_grad():
        net.module.classifier[-1].bias += 1  # trained, in a sense
    assert not ww.need.curve(net, digits, methods="mean", quiet=True).notes


def test_a_network_without_scores_is_refused_once_before_anything_runs(trained, digits, tmp_path, capfd):
    with pytest.raises(InputError, match="the network gives scores of shape"):
        ww.need.curve(trained.module.features, digits, out=tmp_path)
    assert not (tmp_path / "cells").exists()
    assert "failed" not in capfd.readouterr().err


def test_weights_that_are_no_numbers_are_refused_before_anything_runs(digits, tmp_path):
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    with torch.no_grad():
        net.module.features[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match=r"NaN|nan"):
        ww.need.curve(net, digits, methods="gap_fc", out=tmp_path, quiet=True)
    assert not (tmp_path / "cells").exists()


def test_a_single_draw_is_said(trained, digits):
    options = {"sites": "features.25", "quiet": True}
    assert any("repeats=1" in n for n in ww.need.curve(trained, digits, methods="shared", repeats=1, **options).notes)
    assert not ww.need.curve(trained, digits, methods="mean", repeats=1, **options).notes


def test_a_plain_module_is_measured_at_the_size_of_the_pictures(trained, digits):
    curve = ww.need.curve(trained.module, digits, methods="gap_fc", within=1.0, sites="features.11", quiet=True)
    assert curve.recommendation.before["flops"] == ww.sites(trained).total_flops


def test_methods_that_leave_positions_recommend_nothing(trained, digits):
    curve = ww.need.curve(trained, digits, methods=["channel", "rows"], within=1.0, repeats=2, quiet=True)
    assert curve.recommendation.text.startswith("No depth is recommended: that needs one of gap_fc, mean")


def test_finished_cells_are_never_run_again(trained, digits, tmp_path, monkeypatch):
    options = {"methods": ["mean", "gap_fc"], "sites": ["features.11", "features.15"], "out": tmp_path, "quiet": True}
    first = ww.need.curve(trained, digits, **options)
    monkeypatch.setattr(curve_worker.CurveWorker, "__call__", lambda *_: pytest.fail("ran"))
    again = ww.need.curve(trained, digits, **options)
    assert (again.points, again.intact, again.notes) == (first.points, first.intact, first.notes)


def test_fold_only_gives_what_is_finished_and_names_the_rest(trained, digits, tmp_path):
    study = ww.need.Curve(trained, digits, methods=("mean", "gap_fc"), sites=("features.11",), batch_size=40)
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="no cell of the intact network is finished"):
        study.run(tmp_path, fold_only=True, quiet=True)
    whole = study.run(tmp_path, quiet=True)
    assert not whole.notes
    for file in (tmp_path / "cells").iterdir():
        if '"rows":[80,150]' in file.read_text():
            file.unlink()
    partial = study.run(tmp_path, fold_only=True, quiet=True)
    assert partial.notes == ("Not finished: pictures 80-150.",)
    assert {p.method: p.accuracy.n for p in partial.points} == {"mean": 80, "gap_fc": 150}
    by = {p.method: p for p in whole.points}
    assert next(p for p in partial.points if p.method == "gap_fc") == by["gap_fc"]
    intact = ww.evaluate(trained, Data("digits", {"test": digits.test})).correct[:80].double().mean().item()
    assert partial.intact[0].accuracy.mean == pytest.approx(intact)
    assert next(p for p in partial.points if p.method == "mean").drop.mean == pytest.approx(
        intact - next(p for p in partial.points if p.method == "mean").accuracy.mean
    )


@pytest.fixture(scope="module")
def named(trained, tmp_path_factory) -> dict:
    """The trained network and its pictures by name, as other processes need them."""
    file = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    save_weights(trained.module, file)
    return {"model": "cifar/vgg11", "data": "digits", "weights": str(file), "width": 0.125, "limit": 90}


@pytest.mark.slow
def test_another_process_would_find_the_same(named, tmp_path):
    options = {"sites": ("features.11", "features.15"), "repeats": 2, "batch_size": 10}
    study = ww.need.Curve(**named, **options)
    alone = study.run(tmp_path / "alone", quiet=True)
    both = study.run(tmp_path / "both", engine=Elsewhere(), quiet=True)
    assert (alone.points, alone.notes) == (both.points, both.notes)
    names = [{f.name for f in (tmp_path / which / "cells").iterdir()} for which in ("alone", "both")]
    assert names[0] == names[1]
    assert len(names[0]) == 3 + 1 + 2  # chunks of 20, 40 and 30 pictures; intact, and collapsed at two sites


def test_an_object_is_refused_where_workers_load_by_name(trained, digits):
    with pytest.raises(InputError, match="by name"):
        ww.need.Curve(trained, digits, methods=("mean",)).run(workers=2, quiet=True)


def test_limit_takes_the_same_number_of_every_class(named):
    result = ww.need.Curve(**named, methods=("gap_fc",), sites="features.15").run(quiet=True)
    assert result.data["sizes"] == {"test": 90}
    labels = ww.load_data("digits").test.take(90).labels
    assert set(labels.bincount().tolist()) == {9}
    assert result.data["fingerprints"]["test"] == ww.load_data("digits").test.take(90).fingerprint


def test_pictures_without_labels_have_no_accuracy(trained, tmp_path):
    for i in range(3):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match=r"data='.*': these pictures have no labels"):
        ww.need.curve(trained, str(tmp_path), methods="mean", score="accuracy", quiet=True)
    with pytest.raises(InputError, match="data: these pictures have no labels"):
        ww.need.curve(trained, ww.load_data(tmp_path), methods="mean", score="accuracy", quiet=True)


def test_a_cut_that_cannot_be_collapsed_gets_a_note(digits):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    some = Data("digits", {"test": digits.test.take(10)})
    result = ww.need.curve(net.eval(), some, methods=["mean", "gap_fc"], sites=["0", "2"], quiet=True)
    assert {(p.method, p.site) for p in result.points} == {("mean", "0"), ("mean", "2"), ("gap_fc", "2")}
    (note,) = [n for n in result.notes if n.startswith("GAP+FC is left out at 0: ")]
    assert "a ConvTranspose2d, makes no constant map of one" in note


def test_a_device_that_is_not_there_is_refused_before_anything_runs(trained, digits, tmp_path):
    with pytest.raises(InputError, match="device='toaster'"):
        ww.need.Curve(trained, digits, methods=("mean",)).run(tmp_path, device="toaster", quiet=True)
    assert not (tmp_path / "cells").exists()


def test_draws_of_a_chunk_depend_on_those_before_it_whoever_ran_them(trained, digits, tmp_path):
    options = {"methods": ["per-channel"], "repeats": 10, "tolerance": 0.05, "batch_size": 10, "quiet": True}
    whole = ww.need.curve(trained, digits, out=tmp_path, **options)
    cells = {f: json.loads(f.read_text()) for f in (tmp_path / "cells").iterdir()}
    last = next(f for f, c in cells.items() if c["config"]["rows"] == [140, 150])
    kept = last.read_text()
    last.unlink()
    again = ww.need.curve(trained, digits, out=tmp_path, **options)
    assert again.points == whole.points
    assert json.loads(last.read_text())["result"] == json.loads(kept)["result"]


def test_a_loader_in_a_fixed_order_is_measured_like_its_pictures(trained):
    """What the message about a loader that shuffles advises must work, for chunks and for collapsed networks."""
    pictures = TensorDataset(torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 10)
    options = {
        "methods": ["per-channel", "gap_fc"],
        "sites": "features.0",
        "repeats": 2,
        "batch_size": 10,
        "quiet": True,
    }
    one = ww.need.curve(trained, ww.load_data(DataLoader(pictures, 7)), **options)
    other = ww.need.curve(trained, ww.load_data(pictures), **options)
    assert [p.accuracy for p in one.points] == [p.accuracy for p in other.points]


def test_a_single_class_is_refused(trained):
    pictures = TensorDataset(torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.zeros(20, dtype=torch.int64))
    with pytest.raises(InputError, match="data has one class, '0', which any network gets right"):
        ww.need.curve(trained, ww.load_data(pictures), methods=["gap_fc"], quiet=True)


def test_notes_of_the_pictures_reach_the_result(trained):
    labels = torch.tensor([0, 1, 9, 1]).repeat(10)
    with pytest.warns(UserWarning, match=r"data 'dataset': labels go to 9, so 10 classes .*, of which 3 occur"):
        data = ww.load_data(TensorDataset(torch.zeros(40, 3, 32, 32, dtype=torch.uint8), labels))
    curve = ww.need.curve(trained, data, methods=["mean"], sites="features.0", limit=20, quiet=True)
    assert data.notes[0] in curve.notes
    assert curve.data["notes"] == list(data.notes)
