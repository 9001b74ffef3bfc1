"""The study of bottlenecks, from a trained network to the page."""

import json
from dataclasses import replace

import pytest
import torch

import whatwhere as ww
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.studies.bottleneck import result
from whatwhere.studies.bottleneck.cell import Bench
from whatwhere.studies.bottleneck.kinds import KINDS
from whatwhere.studies.bottleneck.study import TUNING, bottleneck_study, prepared
from whatwhere.studies.packed import unpack_scores
from whatwhere.studies.stored import load_result
from whatwhere.training.evaluate_scenes import evaluate_scenes

SITE = "middle"


def again(said, out=None, **changes):
    options = {"sites": [SITE], "concepts": said.concepts, "recipe": said.recipe, "quiet": True, **changes}
    return bottleneck_study(said.net, said.scenes, out=out or said.out, **options)


@pytest.fixture
def ran(monkeypatch):
    """The kinds of the cells that run."""
    seen, real = [], Bench.__call__
    monkeypatch.setattr(Bench, "__call__", lambda self, config: seen.append(config["kind"]) or real(self, config))
    return seen


def test_every_kind_is_there_and_the_network_is_left_alone(said):
    assert [r.kind for r in said.result.rows] == list(KINDS)
    assert said.unchanged()
    widths = {r.kind: r.channels for r in said.result.rows}
    assert widths == {**dict.fromkeys(KINDS, 10), "intact": 24, "tuned": 24, "usb": 12}
    assert said.result.row(SITE, "ssb").names[:2] == ("part: wall", "part: window")


def test_intact_is_the_network(said):
    expected = evaluate_scenes(said.net, said.scenes.test)
    row = said.result.row(SITE, "intact")
    assert row.miou.value == pytest.approx(expected.miou, abs=2e-3)  # features are kept in half precision
    assert row.accuracy.value == pytest.approx(expected.accuracy, abs=2e-3)


@pytest.mark.parametrize("kind", ["tuned", "ssb", "ssb-binary", "usb", "learned", "pca", "random"])
def test_a_stored_network_is_the_one_that_was_measured(said, kind):
    """Whole pictures through the rebuilt network, against features through the tail."""
    setting = prepared(said.net, said.scenes, said.out, concepts=said.concepts, recipe=said.recipe)
    module = setting.bench.rebuilt(setting.cell(SITE, kind, 0))
    seen = evaluate_scenes(replace(said.net, module=module), said.scenes.test)
    row = said.result.row(SITE, kind)
    assert row.accuracy.value == pytest.approx(seen.accuracy, abs=5e-3)
    assert row.miou.value == pytest.approx(seen.miou, abs=1e-2)


@pytest.mark.parametrize("kind", ["ssb", "pca"])
def test_everything_in_front_stays(said, kind):
    setting = prepared(said.net, said.scenes, said.out, concepts=said.concepts, recipe=said.recipe)
    state = setting.bench.rebuilt(setting.cell(SITE, kind, 0)).state_dict()
    named = {k.replace(f"{SITE}.site.", f"{SITE}."): v for k, v in state.items()}
    changed = {k.split(".")[0] for k, v in said.before.items() if not torch.equal(named[k], v)}
    assert changed == {"head", "classify"}


def test_the_result_comes_back(said):
    found = load_result(said.out)
    assert isinstance(found, ww.BottleneckResult)
    assert found.rows == said.result.rows
    assert json.dumps(found.to_dict()) == json.dumps(said.result.to_dict())
    assert (found.conclusion, found.table()) == (said.result.conclusion, said.result.table())
    with pytest.raises(InputError, match="schema version 99"):
        ww.BottleneckResult.from_dict({**found.to_dict(), "schema_version": 99})


def test_the_page_says_all(said):
    page = (said.out / "index.html").read_text()
    for text in ("Can it say what is where?", "part: crown", "temperature scaling", "Each concept dropped in turn"):
        assert text in page
    assert {f.stem for f in said.out.glob("*.svg")} == {"bottleneck", "inspectability", "confidence"}
    assert (said.out / "table.csv").read_text().count("middle,") == len(KINDS)


@pytest.fixture
def no_page(monkeypatch):
    """Figures take seconds."""
    monkeypatch.setattr(result, "write_report", lambda folder, report: folder)


def test_a_second_call_runs_nothing_and_says_the_same(said, ran, no_page):
    assert again(said).rows == said.result.rows
    assert ran == []


def test_a_killed_study_goes_on(said, ran, tmp_path, monkeypatch, no_page):
    counting = Bench.__call__

    def killed(self, config):
        if config["kind"] == "pca":
            raise KeyboardInterrupt
        return counting(self, config)

    monkeypatch.setattr(Bench, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        again(said, tmp_path, kinds=["learned", "pca"])
    assert ran == ["ceiling", "intact", "learned"]
    partial = again(said, tmp_path, kinds=["learned", "pca"], run=False)
    assert any("Not finished: pca at middle, seed 0" in n for n in partial.notes)
    monkeypatch.setattr(Bench, "__call__", counting)
    whole = again(said, tmp_path, kinds=["learned", "pca"])
    assert ran == ["ceiling", "intact", "learned", "pca"]
    assert [r.miou for r in whole.rows] == [said.result.row(SITE, r.kind).miou for r in whole.rows]  # bit by bit


def test_seeds_of_what_is_drawn(said, tmp_path, no_page):
    found = again(said, tmp_path, kinds=["random"], seeds=[0, 1])
    intact, random = found.rows
    assert len(intact.seeds) == 1
    assert len(set(random.seeds)) == 2


def test_an_empty_folder_has_nothing_to_fold(said, tmp_path):
    with pytest.raises(InputError, match="no cell is finished"):
        again(said, tmp_path, run=False)


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
        ({"recipe": replace(TUNING, crop=(32, 32))}, "crop=None"),
        ({"concepts": {"named": ["part", "material"], "positions": True}}, "this is no bottleneck"),
        ({"concepts": {"merged": {"x": ["car"]}}}, "is 'car' of the task"),
        ({"seeds": [-1]}, "each 0 or more"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(said, ran, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        again(said, tmp_path, **changes)
    assert ran == []
    assert not (tmp_path / "features").exists()


def test_one_group_has_no_interval(said, tmp_path):
    test = said.scenes.test
    one = SceneSplit("test", test.pictures, test.maps, test.classes, torch.zeros(len(test), dtype=torch.int64))
    with pytest.raises(InputError, match="'test' is one group"):
        prepared(said.net, replace(said.scenes, splits={**said.scenes.splits, "test": one}), tmp_path,
                 concepts=said.concepts, recipe=said.recipe)  # fmt: skip


def test_thresholds_are_never_set_on_test_pictures(said, tmp_path):
    held = said.scenes.test
    grouped = SceneSplit("val", held.pictures, held.maps, held.classes, torch.arange(8) // 2)
    lone = Scenes("lone", {"train": said.scenes.train, "val": grouped}, values=said.scenes.values)
    found = prepared(said.net, lone, tmp_path, concepts=said.concepts, recipe=said.recipe).bench.scenes
    assert found.name == "lone (val halved)"
    assert (found.validation.groups.tolist(), found.test.groups.tolist()) == ([0, 0, 1, 1], [2, 2, 3, 3])
    assert torch.equal(found.test[0][0], held[4][0])
    single = replace(lone, splits={**lone.splits, "val": held.only(torch.tensor([0]))})
    with pytest.raises(InputError, match="is one group"):
        prepared(said.net, single, tmp_path, concepts=said.concepts, recipe=said.recipe)


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
        bottleneck_study(said.net, scenes, sites=[SITE], out=tmp_path, concepts={"positions": True}, quiet=True)


def test_a_network_for_other_classes_is_refused(said, tmp_path):
    test = said.scenes.splits
    more = {n: SceneSplit(n, s.pictures, s.maps, (*s.classes, "boat")) for n, s in test.items()}
    with pytest.raises(InputError, match="10 scores a pixel, and there are 11 classes"):
        bottleneck_study(said.net, replace(said.scenes, splits=more), sites=[SITE], out=tmp_path, kinds=["intact"],
                         concepts={"positions": True}, quiet=True)  # fmt: skip


def test_leakage_without_an_edit_is_what_was_measured(said):
    """`few` takes every test picture here, so that it must be the network itself."""
    setting = prepared(said.net, said.scenes, said.out, concepts=said.concepts, recipe=said.recipe)
    cell = setting.store.load(setting.cell(SITE, "ssb", 0))
    total = unpack_scores(cell["confusions"]).reshape(8, 10, 10).sum(0)
    assert cell["leakage"]["few n"] == 8
    assert total.tolist() == cell["leakage"]["few"]
    assert sum(map(sum, cell["leakage"]["oracle"])) == total.sum()
    assert set(said.result.row(SITE, "ssb").extras["leakage"]["dropped"]) == set(said.result.row(SITE, "ssb").names)
