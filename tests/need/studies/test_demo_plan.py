"""The plan of the demo: a cell is the whole study of a task."""

import pytest

import whatwhere as ww
from small_finished import finished
from small_need import found
from whatwhere.errors import InputError
from whatwhere.need.studies import demo_plan
from whatwhere.need.studies.demo_plan import SHARES, DemoWorker


def test_a_cell_is_a_task_and_the_loss_that_is_allowed():
    plan = ww.need.Demo(within=0.03).planned()
    cells = plan.cells(finished())
    assert [(c.label, c.config) for c in cells] == [
        (task, {"task": task, "data": data, "within": 0.03})
        for task, data in (("what", "known/what"), ("where", "known/where"), ("digits", "digits"))
    ]


def test_a_fold_is_of_the_tasks_that_are_finished():
    plan = ww.need.Demo().planned()
    what, where, digits = plan.cells(finished())
    done = finished((digits, found(0.98, 0.9).to_dict()), (what, found(1.0, 0.99).to_dict()), missing=[where])
    result = plan.fold(done)
    assert list(result.tasks) == ["what", "digits"]
    assert result.tasks["digits"] == found(0.98, 0.9)
    assert result.notes == ("Not finished: where.",)
    with pytest.raises(InputError, match="no task of the demo is finished"):
        plan.fold(finished(missing=[what]))


def test_the_worker_runs_the_study_of_its_task_in_a_folder_of_its_own(tmp_path, monkeypatch):
    asked = {}

    class Fake:
        def __init__(self, model, data, **options):
            asked.update(model=model, data=data, **options)

        def run(self, out, **how):
            asked.update(out=out, **how)
            return found(0.99, 0.09)

    monkeypatch.setattr(demo_plan, "Trained", Fake)
    plan = ww.need.Demo(within=0.02).planned()
    worker = plan.worker(ww.Run(tmp_path, weights_folder=tmp_path / "w", device="cpu", quiet=True))
    assert worker == DemoWorker(tmp_path, tmp_path / "w", "cpu", True)
    assert worker(plan.cell("where").config) == found(0.99, 0.09).to_dict()
    assert asked == {
        "model": "cifar/vgg11",
        "data": "known/where",
        "width": 0.25,
        "recipe": "demo",
        "shares": SHARES,
        "seeds": (0,),
        "within": 0.02,
        "out": tmp_path / "where",
        "weights_folder": tmp_path / "w" / "where",
        "device": "cpu",
        "quiet": True,
    }
