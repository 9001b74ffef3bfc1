"""The position study: rows, controls, folds, resuming, page."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from small_classifier import small_classifier as network
from small_engine import Elsewhere
from small_readout import FEW, position
from whatwhere.errors import InputError
from whatwhere.hold.official import Official
from whatwhere.hold.studies.readout import readout
from whatwhere.hold.studies.readout_result import SHUFFLED, ReadoutResult
from whatwhere.intervals import student


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


def test_of_a_network_that_was_not_trained_it_is_said_what_a_difference_is(held, data):
    made = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    told = position(made, data, untrained=2, paddings=[], **FEW).conclusion
    assert told.endswith("how weights were drawn (theirs by each layer's own reset_parameters).")
    assert "reset_parameters" not in held.conclusion


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


# ---- as a study

NAMED = {"classes": 10, "width": 0.125, "untrained": 1, "sites": ("features.0",), **FEW}


@pytest.mark.slow
def test_another_process_would_find_the_same(tmp_path):
    own = {**NAMED, "targets": {"mine": np.arange(256.0).reshape(16, 16) / 256}}
    here = position("cifar/vgg11", "digits", tmp_path / "here", paddings=["circular"], **own)
    there = position("cifar/vgg11", "digits", tmp_path / "there", {"engine": Elsewhere()}, paddings=["circular"], **own)
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


def test_the_convenience_is_the_study(data, held):
    assert readout(network(), data, quiet=True, untrained=2, paddings=["circular"], **FEW).rows == held.rows


def test_the_table_as_numbers(held):
    frame = held.to_frame()
    assert len(frame) == len(held.rows)
    assert frame["spc.mean"][0] == held.rows[0].spc.mean
