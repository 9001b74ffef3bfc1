"""The demo as a study: its cells, its page, resuming; and when the known answer counts as found."""

from dataclasses import replace

import pytest

import whatwhere as ww
from small_choice import on_demand
from whatwhere.cli import main
from whatwhere.data.street_objects import CONFUSED, DIFFERENCE
from whatwhere.errors import InputError
from whatwhere.lab.study import Run
from whatwhere.models.weights import read_tensors
from whatwhere.say.studies import demo_plan, demo_result
from whatwhere.say.studies.compare import SITE
from whatwhere.say.studies.demo_plan import DemoWorker, comparison
from whatwhere.say.studies.demo_result import DemoResult, verdict
from whatwhere.say.studies.say_row import Interval


@pytest.fixture
def shrunk(monkeypatch, streets, no_figures):
    """Few small streets, a narrow network, one epoch."""
    monkeypatch.setattr("whatwhere.lab.sources.scenes_named", lambda *_: streets)
    monkeypatch.setattr(demo_plan, "WIDTH", 0.07)
    monkeypatch.setattr(demo_plan, "LEARNING", replace(demo_plan.LEARNING, epochs=1, batch_size=4, crop=(16, 24)))
    monkeypatch.setattr(demo_plan, "COMPARED", {**demo_plan.COMPARED, "kinds": ("ssb",), "epochs": 1})


@pytest.fixture
def fake(monkeypatch, said, no_figures):
    """Cells that give what is known; those that ran."""
    ran = []

    def run(self, config):
        ran.append(config["do"])
        return {"weights": "abc"} if config["do"] == "learn" else said.result.to_dict()

    monkeypatch.setattr("whatwhere.lab.sources.scenes_named", lambda *_: said.scenes)
    monkeypatch.setattr(DemoWorker, "__call__", run)
    monkeypatch.setattr(demo_result, "SITE", "middle")
    return ran


def test_the_network_comes_first_and_finished_cells_are_not_run_again(fake, said, tmp_path):
    with pytest.raises(InputError, match="holds no study to fold"):
        ww.say.Demo().run(tmp_path, fold_only=True, quiet=True)
    found = ww.say.Demo().run(tmp_path, quiet=True)
    assert fake == ["learn", "compare"]
    assert found.rows == said.result.rows
    assert ww.say.Demo().run(tmp_path, quiet=True).rows == found.rows
    assert fake == ["learn", "compare"]


def test_the_result_and_its_page_are_read_back(fake, said, tmp_path):
    (tmp_path / "compare" / "explain").mkdir(parents=True)
    (tmp_path / "compare" / "explain" / "index.html").touch()
    found = ww.say.Demo().run(tmp_path, quiet=True)
    back = ww.load_result(tmp_path)
    assert isinstance(back, DemoResult)
    assert (back.rows, back.conclusion) == (found.rows, found.conclusion)
    assert back.table() == said.result.table()
    page = (tmp_path / "index.html").read_text()
    assert found.conclusion.split(" points")[0] in page
    assert said.result.conclusion.split("%")[0] in page
    assert 'href="compare/explain/index.html"' in page


def test_a_demo_that_is_not_finished_is_no_result(fake, tmp_path):
    ww.say.Demo().run(tmp_path, quiet=True)
    cells = {f: f.read_text() for f in (tmp_path / "cells").iterdir()}
    next(f for f, text in cells.items() if '"do":"compare"' in text).unlink()
    with pytest.raises(InputError, match="comparison is not finished"):
        ww.say.Demo().run(tmp_path, fold_only=True, quiet=True)


def test_the_command_goes_into_a_folder_of_its_own(fake, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["say", "demo", "--quiet"])
    printed = capsys.readouterr().out
    assert printed.startswith("NOT as expected: ")
    assert printed.endswith("open demo-say/index.html\n")


def test_a_folder_of_another_study_is_refused_before_anything_is_trained(fake, said, tmp_path):
    (tmp_path / "study.json").write_text('{"study": "bottleneck"}')
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(InputError, match=r"another study[\s\S]*study: 'bottleneck' there, 'say demo' now"):
        ww.say.Demo().run(tmp_path, quiet=True)
    assert fake == []


@on_demand
@pytest.mark.slow
def test_a_small_demo_is_the_comparison_of_the_network_it_trained(shrunk, tmp_path):
    found = ww.say.Demo().run(tmp_path, quiet=True)
    assert (tmp_path / "compare" / "explain" / "index.html").exists()
    assert not (tmp_path / "segmenter.pt").exists()
    worker = ww.say.Demo().planned().worker(Run(tmp_path))
    net = ww.load_model(demo_plan.MODEL, weights=worker.weights, classes=10, width=demo_plan.WIDTH)
    mIoU = ww.evaluate(net, worker.scenes).miou
    assert found.row(SITE, "intact").miou.value == pytest.approx(mIoU, abs=1e-6)
    alone = comparison(worker.weights).run(quiet=True)
    assert alone.rows == found.rows
    for file in (tmp_path / "cells").iterdir():
        file.unlink()
    before = read_tensors(worker.weights)
    again = ww.say.Demo().run(tmp_path, quiet=True)  # the same network, and the comparison's cells are finished
    assert again.rows == found.rows
    assert all((before[k] == v).all() for k, v in read_tensors(worker.weights).items())


def test_a_network_that_was_not_kept_is_named(tmp_path):
    with pytest.raises(InputError, match=r"segmenter\.safetensors is missing: the trained network was not kept"):
        DemoWorker(tmp_path, tmp_path)({"do": "compare"})


@pytest.mark.parametrize(
    ("change", "why", "pair", "word"),
    [
        (
            -0.005,
            f"part: {DIFFERENCE} is missing; more",
            CONFUSED,
            "As expected: against 10 learned maps without names, fine-tuned alike, 10 concepts cost at most 1.50 points of "
            "mIoU (0.50 on 8 test pictures; allowed 2)",
        ),
        (-0.015, f"part: {DIFFERENCE} is missing", CONFUSED, "NOT as expected"),  # as likely 2.5: the end decides
        (-0.03, f"part: {DIFFERENCE} is missing", CONFUSED, "NOT as expected"),
        (-0.005, "part: wheel is missing", CONFUSED, "NOT as expected"),
        (-0.005, f"part: {DIFFERENCE} is missing", ("road", "sky"), "NOT as expected"),
    ],
)
def test_the_answer_is_found_only_at_no_cost_and_for_its_reason(said, monkeypatch, change, why, pair, word):
    cost = Interval(change, change - 0.01, change + 0.01, 8)
    row = replace(said.result.row("middle", "ssb"), site=SITE, against={"learned": cost})
    control = replace(said.result.row("middle", "learned"), site=SITE)
    result = DemoResult.of(replace(said.result, rows=(row, control)))
    line = {"true": pair[0], "predicted": pair[1], "why": why, "share of the class": "28 %"}
    monkeypatch.setattr(DemoResult, "failures", lambda self, site=None: [line])
    assert verdict(result).startswith(word)
    assert result.conclusion == verdict(result)


def test_a_bottleneck_that_is_missing_is_said_so(said):
    intact = said.result.row("middle", "intact")
    missing = "NOT as expected: the bottleneck or its fine-tuned control is missing, or it never fails."
    assert verdict(replace(said.result, rows=(intact,))) == missing
    ssb = replace(said.result.row("middle", "ssb"), site=SITE)
    assert verdict(replace(said.result, rows=(intact, ssb))) == missing
