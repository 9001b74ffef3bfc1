"""The position study: rows, controls, folds, resuming, page."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.hold.features import Group, Reader, taps_of
from whatwhere.hold.linear import LinearReadOut
from whatwhere.hold.official import Official
from whatwhere.hold.ridge import RidgeFit
from whatwhere.hold.studies import fold
from whatwhere.hold.studies import measure as measuring
from whatwhere.hold.studies.pictures import pictures_of, prepared
from whatwhere.hold.studies.readout import Readout, readout
from whatwhere.hold.studies.readout_result import SHUFFLED, ReadoutResult
from whatwhere.hold.targets import targets_of
from whatwhere.intervals import student
from whatwhere.lab.packed import pack_scores


@pytest.fixture(scope="module")
def data():
    return ww.load_data("digits")


def network(seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    ).eval()
    return ww.Network(module, ww.Preprocessing(size=(16, 16)), "small", (3, 16, 16))


FEW = {"pictures": 20, "test_pictures": 6, "targets": ["H", "G"], "kernels": [1], "size": 14}


def position(net, data, out=None, how=(), **options) -> ReadoutResult:
    return Readout(net, data, **options).run(out, quiet=True, **dict(how))


@pytest.fixture(scope="module")
def held(data):
    return position(network(), data, untrained=2, paddings=["circular"], **FEW)


def test_every_number_has_its_controls(held):
    assert held.controls == [SHUFFLED, "untrained", "padding circular"]
    rows = held.table()
    assert [r["site"] for r in rows if r["target"] == "H"] == ["1", "4", "all", "rgb"]
    for row in rows:
        assert row["SPC untrained"]
        assert row["SPC shuffled positions"]
        assert row["SPC padding circular"]
        assert row["SPC rgb"]
        assert row["pictures"] == 6


def test_the_papers_layout(held):
    rows = held.paper_table()
    assert [r["network"] for r in rows if r["inputs"] == "pictures"] == [
        "network",
        "shuffled positions",
        "rgb (PosENet)",
        "untrained",
        "padding circular",
    ]
    (own,) = held.of(site="all", target="H", inputs="pictures")
    assert rows[0]["H SPC"] == f"{own.spc.mean:.3f}"
    assert rows[0]["H MAE"] == f"{own.mae.mean:.3f}"


def test_shuffled_positions_hold_nothing(data):
    few = {**FEW, "test_pictures": 60}
    held = position(network(), data, untrained=0, paddings=[], **few)
    rows = held.of(SHUFFLED)
    assert len(rows) == 2 * 4  # targets, sites
    for row in rows:
        assert abs(row.spc.mean) < 4 / np.sqrt(14 * 14 * 60)


def test_a_network_without_padding_effects_holds_less_than_one_with(data):
    padded = position(network(), data, untrained=0, paddings=["circular"], blanks=["black"], **FEW)
    (own,) = padded.of(site="4", target="G", inputs="black")
    (wrapped,) = padded.of("padding circular", site="4", target="G", inputs="black")
    assert own.constant == 0
    assert wrapped.constant == 1  # of a black picture, a network without borders makes a constant
    assert wrapped.spc.mean == 0


def test_untrained_networks_are_folded_over_seeds(held):
    (row,) = held.of("untrained", site="4", target="H", inputs="pictures")
    assert row.spc.repeats == 2
    assert row.spc.mean - row.spc.fixed[0] == pytest.approx(student(1) * row.spc.spread / 2**0.5, rel=1e-6) or (
        row.spc.fixed[0] == -1.0
    )
    assert row.spc.covers == "untrained networks and test pictures"
    (own,) = held.of(site="4", target="H", inputs="pictures")
    assert own.above_untrained.mean == pytest.approx(own.spc.mean - row.spc.mean, abs=1e-6)


def test_the_same_call_gives_the_same_numbers(data, held):
    again = position(network(), data, untrained=2, paddings=["circular"], **FEW)
    assert again.rows == held.rows


def test_the_network_is_not_changed(data):
    net = network().module
    before = {k: v.clone() for k, v in net.state_dict().items()}
    position(ww.Network(net, network().preprocessing, "small", (3, 16, 16)), data, untrained=1, **FEW)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_the_official_readout_is_measured_beside(data):
    held = position(
        network(), data, readouts=["ridge", "official"], official=Official(epochs=2), untrained=0, paddings=[], **FEW
    )
    assert {r.readout for r in held.rows} == {"ridge", "official"}
    assert all(r.penalty is None for r in held.rows if r.readout == "official")


def test_features_that_do_not_fit_are_read_again(data, monkeypatch):
    options = {**FEW, "readouts": ["official"], "official": Official(epochs=2, batch_size=8)}
    cached = position(network(), data, untrained=0, paddings=[], **options)
    monkeypatch.setattr(measuring, "CACHE", 0)
    streamed = position(network(), data, untrained=0, paddings=[], **options)
    for a, b in zip(cached.rows, streamed.rows, strict=True):
        assert a.spc.mean == pytest.approx(b.spc.mean, abs=1e-3)


@pytest.mark.slow
def test_finished_networks_are_not_measured_again(data, tmp_path, monkeypatch):
    position(network(), data, untrained=1, paddings=[], out=tmp_path, **FEW)
    assert len(list((tmp_path / "cells").iterdir())) == 2
    monkeypatch.setattr("whatwhere.hold.studies.readout_worker.measure", None)
    again = position(network(), data, untrained=1, paddings=[], out=tmp_path, **FEW)
    assert ReadoutResult.load(tmp_path).rows == again.rows
    assert (tmp_path / "table.csv").read_text().count("\n") == 1 + 2 * 4


def test_a_folder_measured_with_float32_products_is_refused(data, tmp_path):
    """Its cells hold other numbers, so that nothing may be added to them."""
    options = {**FEW, "untrained": 1, "paddings": []}
    position(network(), data, tmp_path, **options)
    study = json.loads((tmp_path / "study.json").read_text())
    del study["plan"]["measured"]
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(InputError, match="another"):
        position(network(), data, tmp_path, **options)


def test_maps_are_compared_at_the_size_of_the_pictures(held):
    assert {r.size for r in held.rows} == {16}
    assert {r["compared at"] for r in held.table()} == {"16 px"}
    assert "at 16 px" in held.conclusion


def test_scores_are_those_of_predictions_brought_to_the_pictures_size(data):
    """The whole study for one site, written out: ridge on the features, upsampled, rank correlation by SciPy."""
    net, targets = network(), targets_of(["H"])
    found = position(net, data, **{**FEW, "targets": ["H"]}, sites=["4"], untrained=0, paddings=[], blanks=[])
    chosen = pictures_of(data, None, FEW["pictures"], FEW["test_pictures"], 0)
    (tap,) = taps_of(net, ["4"], input_size=(3, 16, 16))
    fit = RidgeFit(Group("4", (tap,)), targets, size=14)
    with Reader(net, [tap], size=14).reading() as read, torch.no_grad():
        for _, x in prepared(chosen.fit, net.preprocessing, 32):
            fit.add(read(x))
        path = fit.solve()
        for _, x in prepared(chosen.held_out, net.preprocessing, 32):
            path.add(read(x))
        ((_, x),) = prepared(chosen.test, net.preprocessing, 32)
        small = path.best().predict(read(x))
    large = nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)[:, 0]
    goal = np.tile(np.arange(16) / 15, (16, 1))
    spc = [spearmanr(m.flatten().numpy(), goal.flatten())[0] for m in large]
    mae = [np.abs(m.numpy() - goal).mean() for m in large]
    (row,) = found.of(site="4")
    assert row.spc.mean == pytest.approx(np.mean(spc), abs=1e-3)  # ranks of values rounded to 1e-5 of their range
    assert row.mae.mean == pytest.approx(np.mean(mae), abs=1e-5)


def test_a_kernel_worse_than_its_own_centre_is_noted():
    linear = LinearReadOut(
        Group("all", ()), 3, 0, torch.zeros(2), torch.zeros(2), (), (0.06, 0.05), (0.04, 0.05), (0.08, 0.08)
    )
    (note,) = measuring.worse_than_its_centre(linear, "all", 3, ["H", "G"])
    assert "3x3 ridge read-out of 'all' predicts H on held-out pictures worse than the 1x1" in note
    assert "(mean squared error 0.0600, 0.0400)" in note


def test_another_network_in_the_same_folder_is_refused(data, tmp_path):
    position(network(), data, untrained=0, paddings=[], out=tmp_path, **FEW)
    with pytest.raises(InputError, match="another study"):
        position(network(seed=1), data, untrained=0, paddings=[], out=tmp_path, **FEW)


def test_the_page_holds_both_figures_and_says_what_follows(held, tmp_path):
    page = held.save(tmp_path).read_text()
    assert "gallery" in page
    assert "untrained networks&#39;" in page
    assert json.loads((tmp_path / "result.json").read_text())["kind"] == "position"


def test_ones_own_target(data):
    own = {"mine": np.arange(256.0).reshape(16, 16) ** 2}
    held = position(network(), data, untrained=0, paddings=[], **{**FEW, "targets": own})
    assert {r.target for r in held.rows} == {"mine"}


def test_a_padding_that_the_network_cannot_have_is_an_error_if_it_was_asked_for(data):
    resnet = ww.load_model("timm/resnet18", classes=10)
    few = {**FEW, "sites": ["layer1"], "targets": ["H"]}
    with pytest.raises(InputError, match="none"):
        position(resnet, data, untrained=0, paddings=["none"], input_size=16, **few)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"readouts": ["lasso"]}, "readouts='lasso'"),
        ({"blanks": ["grey"]}, "blanks='grey'"),
        ({"readouts": []}, "readouts is empty"),
        ({"target_range": "0..2"}, "target_range='0..2'"),
        ({"readout_padding": -1}, "readout_padding=-1"),
        ({"kernels": []}, "kernels"),
        ({"kernels": [40]}, "smaller kernel"),
        ({"untrained": -1}, "untrained=-1"),
        ({"paddings": ["mirror"]}, "paddings='mirror'"),
        ({"pictures": 1}, "pictures=1"),
        ({"test_pictures": 1}, "test_pictures=1"),
        ({"input_size": 0}, "input_size=0"),
    ],
)
def test_wrong_arguments_say_what_to_give(data, options, message):
    with pytest.raises(InputError, match=message):
        position(network(), data, **{**FEW, **options})


def test_deeper_readouts_are_scored_at_their_own_size(data):
    held = position(
        network(),
        data,
        readouts="official",
        official=Official(epochs=1, layers=2),
        untrained=0,
        paddings=[],
        **{**FEW, "kernels": 3},
    )
    assert {r.readout for r in held.rows} == {"official"}


def test_sites_are_chosen_once_and_hold_for_every_control(data):
    vgg = ww.load_model("cifar/vgg11", classes=10, width=0.125)
    held = position(vgg, data, untrained=0, paddings=["f-conv"], input_size=32, **FEW)
    sites = {
        name: [r.site for r in held.of(name, target="H", inputs="pictures")] for name in ("network", "padding f-conv")
    }
    assert sites["network"] == sites["padding f-conv"]
    module = vgg.module.features[2]
    by_module = position(vgg, data, sites=module, untrained=2, paddings=[], input_size=32, **FEW)
    assert {r.site for r in by_module.rows} == {"features.2", "rgb"}


def test_the_raw_input_is_a_site_like_any_other(data):
    held = position(network(), data, sites="rgb", untrained=0, paddings=[], **FEW)
    assert {r.site for r in held.rows} == {"rgb"}
    both = position(network(), data, sites=["rgb", "levels"], untrained=0, paddings=[], **FEW)
    assert {r.site for r in both.rows} == {"rgb", "1", "4", "all"}


def test_the_same_weights_with_another_padding_are_another_measurement(data, tmp_path):
    net = network()
    wrapped = ww.hold.with_padding(net.module, "circular", input_size=(3, 16, 16))
    position(net, data, untrained=0, paddings=[], out=tmp_path, **FEW)
    with pytest.raises(InputError, match="layers"):
        position(
            ww.Network(wrapped, net.preprocessing, "small", (3, 16, 16)),
            data,
            untrained=0,
            paddings=[],
            out=tmp_path,
            **FEW,
        )


def test_the_difference_from_untrained_networks_varies_with_the_networks():
    shared = [{"spc": pack_scores([m - 0.1, m, m + 0.1, m])} for m in (0.2, 0.6, 0.4)]
    above = fold._above(np.array([0.5, 0.6, 0.7, 0.6]), shared)
    assert above.mean == pytest.approx(0.2)
    # The pictures do not vary, the three networks do: Student's t over them.
    assert above.half_width == pytest.approx(student(2) * 0.2 / 3**0.5)
    assert fold._above(np.array([0.5, 0.6]), shared[:1]) is None
    assert fold._above(np.zeros(4), [{"spc": pack_scores([0.0] * 4)}] * 2).half_width == 0


def test_only_the_closed_form_has_a_limit_of_columns(data, monkeypatch):
    monkeypatch.setattr(measuring, "MOST_COLUMNS", 10)
    held = position(
        network(), data, readouts=["ridge", "official"], official=Official(epochs=1), untrained=0, paddings=[], **FEW
    )
    assert "all" not in {r.site for r in held.rows if r.readout == "ridge"}
    assert "all" in {r.site for r in held.rows if r.readout == "official"}
    assert any("left out" in n for n in held.notes)
    monkeypatch.setattr(measuring, "MOST_COLUMNS", 1)
    with pytest.raises(InputError, match="columns"):
        position(network(), data, untrained=0, paddings=[], **FEW)


def test_a_network_that_does_not_pad_has_no_padding_controls(data):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    net = ww.Network(module.eval(), ww.Preprocessing(size=(16, 16)), "patches", (3, 16, 16))
    held = position(net, data, untrained=0, **FEW)
    assert held.controls == [SHUFFLED]
    assert sum("same network" in n for n in held.notes) == 3


def test_double_precision_networks_are_read(data):
    net = network()
    net.module.double()
    assert position(net, data, untrained=0, paddings=[], **FEW).rows


def test_testing_on_the_fitting_pictures_is_noted(data):
    one = Data("one", {"test": data.test})
    held = position(network(), one, test_data=one, untrained=0, paddings=[], **FEW)
    assert any("too high" in n for n in held.notes)


# ---- as a study

NAMED = {"classes": 10, "width": 0.125, "untrained": 1, "sites": ("features.0",), **FEW}


@pytest.mark.slow
def test_workers_give_the_same_numbers(tmp_path):
    own = {**NAMED, "targets": {"mine": np.arange(256.0).reshape(16, 16) / 256}}
    here = position("cifar/vgg11", "digits", tmp_path / "here", paddings=["circular"], **own)
    there = position("cifar/vgg11", "digits", tmp_path / "there", {"workers": 1}, paddings=["circular"], **own)
    assert there.rows == here.rows
    cells = [sorted(f.name for f in (tmp_path / side / "cells").iterdir()) for side in ("here", "there")]
    assert cells[0] == cells[1]
    assert len(cells[0]) == 3


def test_objects_do_not_go_to_workers(data):
    with pytest.raises(InputError, match="model was given as an object"):
        position(network(), "digits", how={"workers": 2}, **FEW)
    with pytest.raises(InputError, match="data was given as an object"):
        position("cifar/vgg11", data, how={"workers": 2}, **NAMED)


@pytest.mark.slow
def test_a_fold_runs_nothing_and_reports_what_is_missing(data, tmp_path):
    first = position(network(), data, tmp_path, untrained=1, paddings=[], **FEW)
    more = position(network(), data, tmp_path, {"fold_only": True}, untrained=2, paddings=["circular"], **FEW)
    assert len(list((tmp_path / "cells").iterdir())) == 2
    assert more.rows == first.rows
    assert "Not finished: untrained (seed 1); padding circular." in more.notes


def test_a_fold_without_the_given_network_is_an_error(data, tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="not measured yet"):
        position(network(), data, tmp_path, {"fold_only": True}, **FEW)


def test_paddings_that_the_network_cannot_have_never_become_cells(data, tmp_path):
    """Maps of 1 x 1 cannot be padded by reflection or wrapped around."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(4, 4, 5, padding=2), nn.Flatten(), nn.Linear(16, 10))
    net = ww.Network(module.eval(), ww.Preprocessing(size=(16, 16)), "deep", (3, 16, 16))
    held = position(net, data, tmp_path, untrained=0, **{**FEW, "sites": ("0",)})
    assert held.controls == [SHUFFLED, "padding circular", "padding replicate"]
    assert sum(n.startswith("Padding reflect is left out") for n in held.notes) == 1
    assert len(list((tmp_path / "cells").iterdir())) == 3


def test_layers_is_an_option_of_the_official_readout(data):
    how = {**FEW, "readouts": ["official"], "untrained": 0, "paddings": [], "blanks": []}
    deep = Readout(network(), data, layers=2, **how).planned().shared()["plan"]["official"]
    assert deep == {**Official().__dict__, "layers": 2}
    with pytest.raises(InputError, match="layers=4"):
        position(network(), data, layers=4, **how)


def test_the_convenience_is_the_study(data, held):
    assert readout(network(), data, quiet=True, untrained=2, paddings=["circular"], **FEW).rows == held.rows


def test_the_table_as_numbers(held):
    frame = held.to_frame()
    assert len(frame) == len(held.rows)
    assert frame["spc.mean"][0] == held.rows[0].spc.mean
