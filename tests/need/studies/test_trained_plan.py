"""The plan of the study of trained networks: its cells, and what is refused before anything is trained."""

import pytest
from PIL import Image

import whatwhere as ww
from small_finished import finished
from small_trained import OPTIONS, study
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.need.studies.result import Point
from whatwhere.need.studies.trained import Trained
from whatwhere.need.studies.trained_plan import TrainedPlan


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"matrix": (0.5,)}, r"matrix=\[0.5\].*shares"),
        ({"repeats": 256}, "repeats=256.*255"),
        ({"methods": ("gap_fk",)}, "Did you mean 'gap_fc'"),
        ({"shares": (54,)}, r"shares=\[54\]: give shares from 0 to 1"),
        ({"seeds": ()}, r"seeds=\(\)"),
        ({"within": 5.0}, "within=5"),
        ({"score": "top-5"}, "Did you mean 'top5'"),
    ],
)
def test_what_no_cell_could_give_is_refused_before_anything_is_trained(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        study(**{"seeds": (0,), **given}).run(tmp_path, quiet=True)
    assert not any(tmp_path.iterdir())


def test_pictures_without_labels_are_refused(tmp_path):
    for i in range(3):
        Image.new("RGB", (32, 32), (i, 0, 0)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match="these pictures have no labels"):
        Trained("cifar/vgg11", str(tmp_path), **OPTIONS).run(quiet=True)


def test_tests_come_when_their_networks_are_trained_and_before_other_trainings():
    plan = study(seeds=(0,), shares=(0.38,)).planned()
    labels = ["intact 0 %, seed 0", "gap_fc 38 %, seed 0", "per-channel 38 %, seed 0"]
    cells = list(plan.cells(finished()))
    assert [c.label for c in cells] == labels
    later = plan.cells(finished((cells[2], {}), (cells[1], {})))
    assert [c.label for c in later] == ["per-channel 38 %, seed 0, tested intact", *labels]


def test_what_cells_share_leaves_seeds_shares_and_methods_open():
    shared = study().planned().shared()
    assert set(shared) == {"model", "options", "data", "recipe", "repeats"}
    assert shared == study(seeds=(5,), shares=(1.0,), matrix=(), methods=("gap_fc",)).planned().shared()
    assert shared["options"] == {"classes": 10, "width": 0.07}
    assert study(score="top5").planned().shared() == {**shared, "score": "top5"}
    assert study(width=1.0).planned().options == {"classes": 10}


@pytest.mark.parametrize(
    ("given", "message"), [({"recipe": 3}, "recipe=3: give a name"), ({"width": "wide"}, "width='wide'")]
)
def test_values_of_another_type_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Trained("cifar/vgg11", "digits", **{**OPTIONS, **given}).planned()


def test_the_worker_keeps_weights_where_it_is_told(tmp_path):
    worker = study().planned().worker(ww.Run(tmp_path / "out", weights_folder=tmp_path / "w", device="cpu"))
    assert (worker.folder, worker.device) == (tmp_path / "w", "cpu")


def test_a_network_whose_interval_holds_chance_is_not_advised_on():
    """Digits are guessed right once in ten; the mean alone may lie above that."""
    planned = TrainedPlan(Trained("cifar/vgg11", "digits", **OPTIONS))
    near = Point("intact", "", 0.0, Estimate(0.12, 0.08, 0.16, 0.0, 100, 1))
    lost = Point("gap_fc", "features.11", 0.62, near.score, Estimate(0.0, 0.0, 0.0, 0.0, 100, 1))
    advice = planned._advice([near], [lost])
    assert advice is not None
    assert "12.0 % [8.0, 16.0] on 100 pictures, is not above chance (10" in advice.text
    assert advice.site is None
