"""The comparison of bottlenecks, from a trained network to the page."""

import copy
import json
from dataclasses import fields, replace

import pytest
import torch

import whatwhere as ww
from small_engine import Elsewhere
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.lab import result
from whatwhere.lab.packed import unpack_scores
from whatwhere.lab.study import Run
from whatwhere.models.weights import save_weights
from whatwhere.say.studies.compare import KINDS, TUNING
from whatwhere.say.studies.compare_cell import CompareWorker
from whatwhere.say.studies.compare_plan import ComparePlan
from whatwhere.say.studies.speaker import Speaker
from whatwhere.training.evaluate_scenes import evaluate_scenes

SITE = "middle"


def again(said, out=None, run=None, **changes):
    return replace(said.study, **changes).run(out or said.out, quiet=True, **(run or {}))


def rebuilt(said, kind):
    plan = ComparePlan(said.study)
    return plan.bench(Run(said.out)).rebuilt(plan.cell(SITE, kind, 0), said.result.row(SITE, kind).names)


@pytest.fixture
def ran(monkeypatch):
    """The kinds of the cells that run."""
    seen, real = [], CompareWorker.__call__
    monkeypatch.setattr(
        CompareWorker, "__call__", lambda self, config: seen.append(config["kind"]) or real(self, config)
    )
    return seen


@pytest.mark.slow
def test_every_kind_is_there_and_the_network_is_left_alone(said):
    assert [r.kind for r in said.result.rows] == list(KINDS)
    assert said.unchanged()
    assert said.net.input_size is None
    widths = {r.kind: r.channels for r in said.result.rows}
    assert widths == {**dict.fromkeys(KINDS, 10), "intact": 24, "tuned": 24, "usb": 12}
    assert said.result.row(SITE, "ssb").names[:2] == ("part: wall", "part: window")
    assert not list((said.out / "checkpoints").glob("*"))


def test_intact_is_the_network(said):
    expected = evaluate_scenes(said.net, said.scenes.test)
    row = said.result.row(SITE, "intact")
    assert row.miou.value == pytest.approx(expected.miou, abs=2e-3)  # features are kept in half precision
    assert row.accuracy.value == pytest.approx(expected.accuracy, abs=2e-3)


@pytest.mark.parametrize("kind", ["tuned", "ssb", "ssb-binary", "usb", "learned", "pca", "random"])
def test_a_stored_network_is_the_one_that_was_measured(said, kind):
    """Whole pictures through the rebuilt network, against features through the tail."""
    seen = evaluate_scenes(replace(said.net, module=rebuilt(said, kind)), said.scenes.test)
    row = said.result.row(SITE, kind)
    assert row.accuracy.value == pytest.approx(seen.accuracy, abs=5e-3)
    assert row.miou.value == pytest.approx(seen.miou, abs=1e-2)


@pytest.mark.parametrize("kind", ["ssb", "pca"])
def test_everything_in_front_stays(said, kind):
    state = rebuilt(said, kind).state_dict()
    named = {k.replace(f"{SITE}.site.", f"{SITE}."): v for k, v in state.items()}
    changed = {k.split(".")[0] for k, v in said.before.items() if not torch.equal(named[k], v)}
    assert changed == {"head", "classify"}


def test_weights_that_are_gone_are_named(said, tmp_path):
    plan = ComparePlan(said.study)
    with pytest.raises(InputError, match=r"is missing: the network was not kept. If it was moved, give weights_folder"):
        plan.bench(Run(tmp_path)).rebuilt(plan.cell(SITE, "ssb", 0), ())


def test_the_result_comes_back(said):
    found = ww.load_result(said.out)
    assert isinstance(found, ww.say.SayResult)
    assert found.rows == said.result.rows
    assert json.dumps(found.to_dict()) == json.dumps(said.result.to_dict())
    assert (found.conclusion, found.table()) == (said.result.conclusion, said.result.table())
    assert set(found.to_frame()["miou.value"]) == {r.miou.value for r in found.rows}
    with pytest.raises(InputError, match="schema version 99"):
        ww.say.SayResult.from_dict({**found.to_dict(), "schema_version": 99})


def test_the_page_says_all(said):
    page = (said.out / "index.html").read_text()
    for text in ("Can it say what is where?", "part: crown", "temperature scaling", "Each concept dropped in turn"):
        assert text in page
    assert {f.stem for f in said.out.glob("*.svg")} == {"bottleneck", "inspectability", "confidence"}
    assert (said.out / "table.csv").read_text().count("middle,") == len(KINDS)


@pytest.fixture
def no_page(monkeypatch):
    """Figures take seconds."""
    monkeypatch.setattr(result, "write_report", lambda folder, report, **_: folder)


@pytest.mark.slow
def test_a_second_call_runs_nothing_and_says_the_same(said, ran, no_page):
    assert again(said).rows == said.result.rows
    assert ran == []


@pytest.mark.slow
def test_a_finished_folder_needs_no_features(said, tmp_path, no_page):
    for name in ("study.json", *(f"cells/{f.name}" for f in (said.out / "cells").iterdir())):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((said.out / name).read_bytes())
    assert again(said, tmp_path).rows == said.result.rows
    assert not (tmp_path / "features").exists()


@pytest.mark.slow
def test_a_killed_study_goes_on(said, ran, tmp_path, monkeypatch, no_page):
    counting = CompareWorker.__call__

    def killed(self, config):
        if config["kind"] == "pca":
            raise KeyboardInterrupt
        return counting(self, config)

    monkeypatch.setattr(CompareWorker, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        again(said, tmp_path, kinds=["learned", "pca"])
    assert ran == ["ceiling", "intact", "learned"]
    partial = again(said, tmp_path, kinds=["learned", "pca"], run={"fold_only": True})
    assert any("Not finished: pca at middle, seed 0" in n for n in partial.notes)
    assert ran == ["ceiling", "intact", "learned"]
    monkeypatch.setattr(CompareWorker, "__call__", counting)
    whole = again(said, tmp_path, kinds=["learned", "pca"])
    assert ran == ["ceiling", "intact", "learned", "pca"]
    assert [r.miou for r in whole.rows] == [said.result.row(SITE, r.kind).miou for r in whole.rows]  # bit by bit


@pytest.mark.slow
def test_seeds_of_what_is_drawn_and_kinds_of_earlier_calls(said, tmp_path, no_page):
    found = again(said, tmp_path, kinds=["random"], seeds=[0, 1])
    intact, random = found.rows
    assert len(intact.seeds) == 1
    assert len(set(random.seeds)) == 2
    more = again(said, tmp_path, kinds=["pca"], seeds=[0])
    assert [(r.kind, len(r.seeds)) for r in more.rows] == [("intact", 1), ("pca", 1), ("random", 2)]
    assert more.row(SITE, "random") == random
    assert (more.settings["kinds"], more.settings["seeds"]) == (["intact", "pca", "random"], [0, 1])


def test_an_empty_folder_has_nothing_to_fold(said, tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match=r"no cell of a network is finished; run the study without fold_only"):
        again(said, tmp_path, run={"fold_only": True})


def test_another_study_is_refused_in_the_same_folder(said):
    with pytest.raises(InputError, match="holds another study"):
        again(said, concepts={"positions": True})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sites": []}, "sites is empty"),
        ({"sites": ["midle"]}, "Did you mean 'middle'"),
        ({"kinds": ["sbb"]}, "Did you mean 'usb' or 'ssb'"),
        ({"group": 1}, "at least 2 maps"),
        ({"epochs": 0}, "epochs=0 must be a whole number"),
        ({"concepts": {"named": ["part", "material"], "positions": True}}, "would not be narrower than the site"),
        ({"concepts": {"merged": {"x": ["car"]}}}, "is 'car' of the task"),
        ({"concepts": {"color": True}}, "Did you mean 'colours'"),
        ({"concepts": "citiscapes"}, "Did you mean 'cityscapes'"),
        ({"seeds": [-1]}, "each 0 or more"),
        ({"sites": ["midle"]}, "sites: site='midle'"),
        ({"batch_size": 100}, "batch_size=100 is more than the 12 training pictures"),
        ({"group": 100}, "group=100: 10 concepts in whole groups are 100 maps, and site='middle' has 24"),
        ({"lr": 0.0}, "lr=0.0"),
        ({"concepts": "broden/nowhere"}, "concepts='broden/nowhere': there is no such folder"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(said, ran, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        again(said, tmp_path, **changes)
    assert ran == []
    assert not (tmp_path / "features").exists()


def test_weights_that_are_not_finite_are_refused_before_anything_runs(said, ran, tmp_path):
    broken = copy.deepcopy(said.net.module)
    broken.head[0].weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"head\.0\.weight holds NaN"):
        again(said, tmp_path, model=broken)
    assert ran == []
    assert not (tmp_path / "features").exists()


def test_the_defaults_are_the_recipe(said):
    defaults = {f.name: f.default for f in fields(ww.say.Compare)}
    assert {n: defaults[n] for n in ("epochs", "batch_size", "lr")} == {"epochs": 10, "batch_size": 8, "lr": 1e-3}
    assert ww.say.Compare(said.net, said.scenes).recipe == TUNING
    assert defaults["kinds"] == tuple(k for k in KINDS if k != "intact")


def test_one_group_has_no_interval(said):
    test = said.scenes.test
    one = SceneSplit("test", test.pictures, test.maps, test.classes, torch.zeros(len(test), dtype=torch.int64))
    scenes = replace(said.scenes, splits={**said.scenes.splits, "test": one})
    with pytest.raises(InputError, match="'test' is one group"):
        ComparePlan(replace(said.study, data=scenes)).shared()


def test_thresholds_are_never_set_on_test_pictures(said):
    held = said.scenes.test
    grouped = SceneSplit("val", held.pictures, held.maps, held.classes, torch.arange(8) // 2)
    lone = Scenes("lone", {"train": said.scenes.train, "val": grouped}, values=said.scenes.values)
    found = ComparePlan(replace(said.study, data=lone)).scenes
    assert found.name == "lone (val halved)"
    assert (found.validation.groups.tolist(), found.test.groups.tolist()) == ([0, 0, 1, 1], [2, 2, 3, 3])
    assert torch.equal(found.test[0][0], held[4][0])
    single = replace(lone, splits={**lone.splits, "val": held.only(torch.tensor([0]))})
    with pytest.raises(InputError, match="is one group"):
        ComparePlan(replace(said.study, data=single)).shared()


def test_pictures_of_two_sizes_are_refused(said, tmp_path):
    other = drawn_streets(train=2, validation=2, test=2, size=(32, 50)).test  # as many cells

    class Both(Memory):
        def read(self, rows):
            return [said.scenes.test.pictures.read([0])[0] if r == 0 else other.pictures.read([0])[0] for r in rows]

    class Maps(Memory):
        def read(self, rows):
            return [(said.scenes.test if r == 0 else other).maps["class"].read([0])[0] for r in rows]

    mixed = SceneSplit("test", Both(torch.zeros(2)), {"class": Maps(torch.zeros(2))}, said.scenes.classes)
    scenes = replace(said.scenes, splits={**said.scenes.splits, "test": mixed})
    with pytest.raises(InputError, match="others are not; resize"):
        again(said, tmp_path, data=scenes, concepts={"positions": True})


def test_a_network_for_other_classes_is_refused(said, tmp_path):
    test = said.scenes.splits
    more = {n: SceneSplit(n, s.pictures, s.maps, (*s.classes, "boat")) for n, s in test.items()}
    scenes = replace(said.scenes, splits=more)
    with pytest.raises(InputError, match="10 scores a pixel, and there are 11 classes"):
        again(said, tmp_path, data=scenes, kinds=["intact"], concepts={"positions": True})


def test_leakage_without_an_edit_is_what_was_measured(said):
    """`few` takes every test picture here, so that it must be the network itself."""
    cell = Speaker(said.study, said.out, SITE).result
    total = unpack_scores(cell["confusions"]).reshape(8, 10, 10).sum(0)
    assert cell["leakage"]["few n"] == 8
    assert total.tolist() == cell["leakage"]["few"]
    assert sum(map(sum, cell["leakage"]["oracle"])) == total.sum()
    assert set(said.result.row(SITE, "ssb").extras["leakage"]["dropped"]) == set(said.result.row(SITE, "ssb").names)


@pytest.mark.slow
def test_another_process_would_find_the_same(street_folder, tmp_path, no_page):
    net = ww.load_model("pspnet/resnet18", classes=10, width=0.125)
    save_weights(net.module, tmp_path / "net.safetensors")
    study = ww.say.Compare(
        "pspnet/resnet18",
        street_folder,
        str(tmp_path / "net.safetensors"),
        width=0.125,
        concepts={"positions": True},
        kinds=("ssb", "random"),
        epochs=1,
        batch_size=4,
    )
    alone = study.run(tmp_path / "alone", quiet=True)
    both = study.run(tmp_path / "both", quiet=True, engine=Elsewhere())
    assert both.rows == alone.rows
    assert {f.name for f in (tmp_path / "both" / "cells").iterdir()} == {
        f.name for f in (tmp_path / "alone" / "cells").iterdir()
    }


def test_objects_cannot_be_sent_to_processes(said, tmp_path):
    with pytest.raises(InputError, match=r"model was given as an object.*workers=0"):
        again(said, tmp_path, kinds=["pca"], run={"workers": 2})


def test_random_weights_are_noted(street_folder, tmp_path, no_page):
    study = ww.say.Compare(
        "pspnet/resnet18", street_folder, width=0.125, concepts={"positions": True}, kinds=("intact",)
    )
    assert any("has random weights" in n for n in study.run(tmp_path, quiet=True).notes)


def test_a_plain_module_is_taken(said, tmp_path, no_figures):
    study = replace(said.study, model=said.net.module, kinds=("intact",))
    found = study.run(tmp_path, quiet=True)
    assert found.row(SITE, "intact").miou == said.result.row(SITE, "intact").miou
