"""The plan of the demo: the network first, then its bottleneck, each in files of its own."""

import pytest

import whatwhere as ww
from small_finished import finished
from whatwhere.errors import InputError
from whatwhere.say.studies import demo_plan
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.demo_plan import DemoWorker, comparison
from whatwhere.say.studies.demo_result import DemoResult
from whatwhere.say.studies.say_row import Interval, SayRow


def result() -> SayResult:
    e = Interval(0.5, 0.4, 0.6, 8)
    return SayResult((SayRow("s", "intact", 8, (), e, e, None, (0.5,), (0.5,)),), ("a",), {"sizes": {"test": 8}}, {})


def test_the_comparison_is_a_cell_once_the_network_is_trained() -> None:
    plan = ww.say.Demo().planned()
    (learning,) = plan.cells(finished())
    assert (learning.label, learning.config["do"]) == ("network", "learn")
    _, comparing = plan.cells(finished((learning, {"weights": "abc"})))
    assert (comparing.label, comparing.config) == ("bottleneck", {"do": "compare", "weights": "abc"})


def test_a_fold_is_the_comparisons_result() -> None:
    plan = ww.say.Demo().planned()
    learning = plan.learning
    trained = (learning, {"weights": "abc"})
    comparing = plan.comparing(finished(trained))
    found = plan.fold(finished(trained, (comparing, result().to_dict())))
    assert isinstance(found, DemoResult)
    assert found.rows == result().rows
    for missing in (finished(), finished(trained), finished((learning, {"weights": "other"}), (comparing, {}))):
        with pytest.raises(InputError, match="comparison is not finished"):
            plan.fold(missing)


def test_files_of_the_network_are_apart_from_those_of_the_comparison(tmp_path) -> None:
    plan = ww.say.Demo().planned()
    worker = plan.worker(ww.Run(tmp_path, weights_folder=tmp_path / "w", device="cpu", quiet=True))
    assert worker == DemoWorker(tmp_path, tmp_path / "w", "cpu", True)
    assert worker.weights == tmp_path / "w" / "segmenter.safetensors"
    worker.files.mkdir()
    worker.checkpoint.touch()
    worker.stored(plan.comparing(finished((plan.learning, {"weights": "abc"}))))
    assert worker.checkpoint.exists()
    worker.stored(plan.learning)
    assert not worker.checkpoint.exists()


def test_the_worker_compares_explains_and_saves_the_link(tmp_path, monkeypatch) -> None:
    did: list[tuple] = []
    found = result()

    class Fake:
        def run(self, out, **how):
            did.append(("run", out, how["weights_folder"]))
            return found

    monkeypatch.setattr(demo_plan, "comparison", lambda weights: Fake())
    monkeypatch.setattr(demo_plan, "explain", lambda study, out, weights_folder: did.append(("explain", out)))
    monkeypatch.setattr(SayResult, "save", lambda self, out: did.append(("save", out)))
    worker = DemoWorker(tmp_path / "out", tmp_path)
    worker.weights.touch()
    assert worker({"do": "compare"}) == found.to_dict()
    out = tmp_path / "out" / "compare"
    assert did == [("run", out, tmp_path / "compare"), ("explain", out), ("save", out)]


def test_the_study_is_of_the_trained_network_on_the_streets(tmp_path) -> None:
    study = comparison(tmp_path / "w.safetensors")
    assert (study.model, study.data, study.weights) == (
        "pspnet/resnet18",
        "drawn/streets",
        str(tmp_path / "w.safetensors"),
    )
    assert {name: getattr(study, name) for name in demo_plan.COMPARED} == demo_plan.COMPARED
