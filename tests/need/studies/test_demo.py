"""The demo: its cells are whole studies; here of made-up results, and once a small real one."""

import json
import pickle

import pytest

import whatwhere as ww
from small_need import found
from whatwhere.errors import InputError
from whatwhere.need.studies import demo_plan
from whatwhere.need.studies.demo_result import DemoResult
from whatwhere.training.recipes import RECIPES

RESULTS = {"known/what": found(1.0, 0.99), "known/where": found(0.99, 0.09), "digits": found(0.98, 0.9)}


@pytest.fixture
def fake(monkeypatch):
    """Studies that are not run; the folders that they were asked for."""
    asked = []

    class Fake:
        def __init__(self, model, data, **options):
            self.data = data

        def run(self, out, **how):
            asked.append(out)
            return RESULTS[self.data]

    monkeypatch.setattr(demo_plan, "Trained", Fake)
    return asked


def test_each_task_is_a_cell_with_a_folder_of_its_own(fake, tmp_path):
    result = ww.need.Demo().run(tmp_path, quiet=True)
    assert fake == [tmp_path / task for task in ("what", "where", "digits")]
    assert {task: r.points for task, r in result.tasks.items()} == {
        task: RESULTS[source].points for task, source in demo_plan.TASKS.items()
    }
    assert [line["collapsed from"] for line in result.table()] == ["s0.88"] * 3
    assert len(result.to_frame()) == 9


def test_finished_tasks_are_not_run_again_but_for_another_loss(fake, tmp_path):
    first = ww.need.Demo().run(tmp_path, quiet=True)
    again = ww.need.Demo().run(tmp_path, quiet=True)
    assert again.tasks == first.tasks
    assert len(fake) == 3
    ww.need.Demo(within=0.03).run(tmp_path, quiet=True)
    assert len(fake) == 6


def test_result_and_page_are_read_back(fake, tmp_path):
    result = ww.need.Demo().run(tmp_path, quiet=True)
    plain = json.loads((tmp_path / "result.json").read_text())
    assert plain["kind"] == "demo"
    assert plain["tasks"]["what"]["kind"] == "dependency"
    back = ww.load_result(tmp_path)
    assert isinstance(back, DemoResult)
    assert back == result
    assert "As expected" in back.conclusion
    page = (tmp_path / "index.html").read_text()
    assert "As expected" in page
    assert 'href="where/index.html"' in page


def test_a_result_of_the_first_version_is_read(fake):
    tasks = {task: RESULTS[source].to_dict() for task, source in demo_plan.TASKS.items()}
    old = DemoResult.from_dict({"kind": "demo", "schema_version": 1, "tasks": tasks})
    assert old.tasks["digits"] == RESULTS["digits"]
    with pytest.raises(InputError, match="schema version 2"):
        DemoResult.from_dict({"kind": "demo", "schema_version": 2, "tasks": {}})


def test_a_folder_of_another_study_is_refused(fake, tmp_path):
    ww.need.Demo().run(tmp_path, quiet=True)
    with pytest.raises(InputError, match=r"another study[\s\S]*study: 'demo' there"):
        ww.need.Trained("cifar/vgg11", "digits", width=0.07).run(tmp_path, quiet=True)


def test_unfinished_tasks_are_named(fake, tmp_path):
    (tmp_path / "study.json").write_text("{}")  # begun, and nothing finished
    with pytest.raises(InputError, match="no task of the demo is finished"):
        ww.need.Demo().run(tmp_path, fold_only=True, quiet=True)
    ww.need.Demo().run(tmp_path, quiet=True)
    for file in (tmp_path / "cells").iterdir():
        if json.loads(file.read_text())["config"]["task"] == "where":
            file.unlink()
    partial = ww.need.Demo().run(tmp_path, fold_only=True, quiet=True)
    assert list(partial.tasks) == ["what", "digits"]
    assert partial.notes == ("Not finished: where.",)
    assert partial.conclusion == ""


def test_a_loss_that_is_not_a_share_is_refused(tmp_path):
    with pytest.raises(InputError, match="within=5"):
        ww.need.Demo(within=5.0).run(tmp_path, quiet=True)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_an_interruption_inside_a_task_resumes_there(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_plan, "TASKS", {"digits": "digits"})
    monkeypatch.setattr(demo_plan, "WIDTH", 0.07)
    monkeypatch.setitem(RECIPES, "demo", ww.Recipe(epochs=1, batch_size=64, crop_padding=0, flip=False))
    plan = ww.need.Demo().planned()
    worker = plan.worker(ww.Run(tmp_path, quiet=True))
    assert pickle.loads(pickle.dumps(worker)) == worker
    result = ww.need.Demo().run(tmp_path, quiet=True)
    nested = {f: f.stat().st_mtime_ns for f in (tmp_path / "digits" / "cells").iterdir()}
    assert len(nested) == 1 + 2 * 2 + 2
    for file in (tmp_path / "cells").iterdir():
        file.unlink()
    again = ww.need.Demo().run(tmp_path, quiet=True)
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "digits" / "cells").iterdir()} == nested
    assert again.tasks["digits"].points == result.tasks["digits"].points
