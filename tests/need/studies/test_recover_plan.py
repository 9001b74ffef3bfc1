"""The plan of fine-tuning: where it begins, its cells, and what its result says of them."""

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_finished import finished
from small_stripes import data, network
from whatwhere.errors import InputError
from whatwhere.lab.packed import pack
from whatwhere.need.studies.recover_plan import start_of


def test_a_share_begins_where_the_network_can_be_cut():
    sites = {name: ww.sites(ww.load_model(f"cifar/{name}", width=0.125)) for name in ("vgg16", "resnet20")}
    assert start_of(sites["vgg16"], "last 30%").name == "features.30"  # 4 of 13 convolutions, as the paper counts
    assert start_of(sites["resnet20"], "last 30%").name == "layers.2.1"  # a block, which no shortcut bypasses
    assert start_of(sites["resnet20"], "layers.2.0.conv1").name == "layers.2.0.conv1"  # what was named is taken


RECIPE = ww.Recipe(epochs=1, batch_size=16, crop_padding=0, flip=False)


def plan(**options):
    return ww.need.Recover(network(), data(), **{"sites": ("0",), "recipe": RECIPE, "seeds": (0,), **options}).planned()


def test_tests_come_first_then_seed_by_seed_the_networks_and_their_control():
    made = plan(sites=("0", "1", "0"), seeds=(3, 1))
    assert [c.label for c in made.cells(finished())] == [
        "0, as given",
        "1, as given",
        "intact, as given",
        "0, seed 3",
        "1, seed 3",
        "intact, seed 3",
        "0, seed 1",
        "1, seed 1",
        "intact, seed 1",
    ]
    assert made.tune("1", 3).config == {**made.common, "do": "tune", "site": "1", "seed": 3}
    assert made.test(None).config == {**made.common, "do": "test", "site": None}


def result(right: int) -> dict:
    hits = (np.arange(60) < right).astype(np.uint8)
    return {"n": 60, "accuracy": right / 60, "hits": pack(hits), "weights": "weights/x.safetensors"}


def test_a_fold_has_the_seeds_and_sites_of_earlier_calls_too():
    made = plan()
    pairs = [(made.test(None), result(54)), (made.test("0"), result(30)), (made.test("1"), result(12))]
    pairs += [(made.tune(None, s), result(57)) for s in (0, 2)] + [(made.tune("0", s), result(45)) for s in (0, 2)]
    found = made.fold(finished(*pairs))
    assert [(r.name, r.measured["accuracy"].mean) for r in found.rows] == [
        ("intact", 0.9),
        ("intact, fine-tuned", 0.95),
        ("0", 0.5),
        ("0, fine-tuned", 0.75),
        ("1", 0.2),
    ]
    assert found.settings["seeds"] == [0, 2]
    assert found.sites == ["0", "1"]
    assert found["0, fine-tuned"].measured["share recovered"].mean == pytest.approx(0.25 / 0.45)
    assert found.weights["0, fine-tuned"] == ["weights/x.safetensors"] * 2


def test_costs_are_those_of_the_intact_network_and_of_each_collapsed_one():
    """A 3 x 3 convolution of 3 to 8 channels on 8 x 8 pictures; collapsed, a linear map of the mean colour."""
    made = plan()
    found = made.fold(finished((made.test(None), result(54))))
    head = 8 * 2 + 2
    assert found.cost[""] == {"parameters": 8 * 27 + 8 + head, "flops": 2 * 64 * 8 * 27 + 2 * 16}
    assert found.cost["0"] == {"parameters": 8 * 3 + 8 + head, "flops": 2 * 8 * 3 + 2 * 16}


def test_nothing_finished_is_an_error():
    with pytest.raises(InputError, match="no cell is finished"):
        plan().fold(finished())


def test_the_note_on_loading_names_the_network_by_name_or_as_given():
    assert plan()._loaded() == "net"
    named = ww.need.Recover("cifar/vgg11", "digits", classes=10, width=0.07).planned()
    assert named._loaded() == "ww.load_model('cifar/vgg11', classes=10, width=0.07)"


def test_a_frozen_prefix_gives_each_site_a_control():
    made = plan(sites=("1", "2"), freeze="prefix")
    assert [c.label for c in made.cells(finished())] == [
        "1, as given",
        "2, as given",
        "intact, as given",
        "1, seed 0",
        "2, seed 0",
        "intact, frozen before 1, seed 0",
        "intact, frozen before 2, seed 0",
    ]
    assert made.control("1", 0).config == {**made.common, "do": "tune", "site": None, "frozen_before": "1", "seed": 0}
    with pytest.raises(InputError, match="freeze='prefix': no parameter lies before 0"):
        plan(freeze="prefix").shared()


def test_what_is_usual_leaves_no_trace_in_cells_so_that_older_folders_go_on():
    assert not {"freeze", "norms", "distill", "until"} & plan(temperature=9, allowed=1, validation=0.5).common.keys()
    assert plan(distill=0.5).common["distill"] == {"weight": 0.5, "temperature": 2.0}


def unlabelled() -> ww.data.Data:
    given = data()
    train = ww.data.Split("train", given.train.source, torch.full((len(given.train),), -1), given.train.classes)
    return ww.data.Data("some", {"train": train, "test": given.test})


@pytest.mark.parametrize("asked", [{}, {"distill": 0.9}, {"distill": 1, "until": "allowed", "allowed": 50}])
def test_pictures_without_labels_teach_scores_alone(asked):
    study = ww.need.Recover(network(), unlabelled(), sites=("0",), recipe=RECIPE, **asked)
    with pytest.raises(InputError, match=r"the training pictures have no labels.*distill=1, until='end'"):
        study.planned().check(ww.Run())
    alone = {"sites": ("0",), "recipe": RECIPE, "distill": 1}
    ww.need.Recover(network(), unlabelled(), **alone).planned().check(ww.Run())
    ends = {"until": "allowed", "allowed": 50, "validation": 0.5, "score": "agreement"}
    ww.need.Recover(network(), unlabelled(), **alone, **ends).planned().check(ww.Run())


def test_too_few_pictures_for_a_step_are_seen_without_those_held_out():
    with pytest.raises(InputError, match="batch_size=16 is more than the 13 training pictures"):
        plan(until="allowed", validation=0.9, allowed=50).check(ww.Run())
    with pytest.raises(InputError, match="26 pictures would be held out"):
        plan(until="allowed").check(ww.Run())


def test_the_notes_say_what_was_asked():
    made = plan(sites=("1",), freeze="prefix", norms="keep", distill=0.5, until="allowed", allowed=50)
    notes = " ".join(made.fold(finished((made.test(None), result(54)))).notes)
    for said in (
        "is frozen",
        "Batch norms used",
        "a weight of 0.5",
        "temperature 2)",
        "20 % of the training",
        "50 points",
    ):
        assert said in notes
    plain = " ".join(plan().fold(finished((plan().test(None), result(54)))).notes)
    assert not [said for said in ("frozen", "Batch norms", "divergence", "held out") if said in plain]
