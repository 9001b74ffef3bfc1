"""An audit from beginning to end: its parts, resumed, and what cannot be asked."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import whatwhere as ww
from random_audits import audits
from small_audit import network, pictures
from whatwhere.audits import asked, plan
from whatwhere.audits.budget import Budget
from whatwhere.errors import InputError
from whatwhere.lab.cells import Store
from whatwhere.lab.study import Finished

QUICK = {"minutes": 0.01, "without": ("check",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def found(folder):
    return ww.audit(network(), pictures(), out=folder, quiet=True, **QUICK)


def test_every_part_is_there_or_says_why_not(found):
    assert set(found.parts) == {"need", "patches", "hold", "fields", "failures"}
    assert found.left_out["check"] == "it was not asked for (--without)."
    assert "residual block" in found.left_out["use"]
    assert "label maps" in found.left_out["say"]
    assert not [why for why in found.left_out.values() if "fault" in why]
    assert len(found.sentences) == 3
    assert 0 < found.parts["failures"]["wrong"] < found.parts["failures"]["pictures"]
    assert (
        found.need.settings["batch_size"] == Budget.batch(found.need.intact[0].score.n) < found.need.intact[0].score.n
    )


def test_the_numbers_are_those_of_the_studies(found, folder):
    """Each part's folder holds its study, as the command of its own would write it."""
    assert ww.load_result(folder / "need").points == found.need.points
    assert ww.load_result(folder / "hold").rows == found.hold.rows
    own = json.loads((folder / "need" / "study.json").read_text())
    net, data = network(), pictures()
    chosen = {"methods": own["methods"], "sites": own["cuts"], "limit": found.need.intact[0].score.n}
    again = ww.need.curve(net, data, **chosen, repeats=2, quiet=True)
    assert set(own["methods"]) == {"per-channel", "mean"}
    assert list(again.points) == [p for p in found.need.points if p.method != "gap_fc"]


def test_what_is_finished_is_not_asked_again(folder, monkeypatch):
    monkeypatch.setattr(plan, "ASK", {})
    again = ww.audit(network(), pictures(), out=folder, quiet=True, **QUICK)
    assert set(again.parts) == {"need", "patches", "hold", "fields", "failures"}
    with pytest.raises(InputError, match="another"):
        ww.audit(network(), pictures(), out=folder, quiet=True, **{**QUICK, "minutes": 3})


def test_passes_of_trainings_that_do_not_happen_are_refused():
    with pytest.raises(InputError, match="give --train true"):
        ww.audit(network(), pictures(), epochs=3)
    with pytest.raises(InputError, match="epochs=0"):
        ww.audit(network(), pictures(), epochs=0, train=True)


def test_a_part_that_breaks_takes_no_other_along(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr(plan, "ASK", {**asked.ASK, "hold": broken})
    found = ww.audit(network(), pictures(), quiet=True, minutes=0.01, without=("check", "patches", "fields", "use"))
    assert set(found.parts) == {"need", "failures"}
    assert (
        found.left_out["hold"]
        == "it failed, which is a fault of whatwhere: ZeroDivisionError: no such thing. Another --out asks again."
    )


def test_what_the_parts_notes_say_is_on_the_audits_page(found):
    parts = [note for part in (found.need, found.hold) for note in part.notes]
    assert parts
    assert set(parts) <= set(found.notes)
    assert all(found.notes.count(note) == 1 for note in parts)


def test_random_weights_are_a_note(tmp_path):
    planned = ww.Audit("cifar/vgg11", "digits", width=0.07).planned()
    worker = planned.worker(ww.Run(tmp_path, workers=2, engine="ray"))
    assert (worker.how.engine, worker.how.workers) == (None, 0)  # a part runs where it was sent
    assert "random weights" in planned.fold(Finished(Store(tmp_path, {}))).notes[0]


def test_without_labels_it_is_asked_how_far_it_moves_from_itself():
    found = ww.audit(network(), pictures(labels=False), quiet=True, minutes=0.01, without=("check", "hold", "fields"))
    assert found.measured.name == "agreement"
    assert "agreement" in found.conclusion


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minutes": 0}, "minutes=0: give a time above 0, such as 5"),
        ({"minutes": float("nan")}, "minutes=nan: give a time above 0"),
        ({"without": ("holt",)}, "hold"),
        ({"seed": 0.5}, "seed=0.5"),
        ({"score": "acuracy"}, "accuracy"),
    ],
)
def test_what_cannot_work_is_refused_first(options, said):
    with pytest.raises(InputError, match=said):
        ww.audit(network(), pictures(), quiet=True, **options)


@settings(
    max_examples=300 if os.environ.get("WHATWHERE_LARGE") else 12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(audits())
def test_whatever_is_asked_of_whatever_network_nothing_is_lost(options):
    """It is refused in words before anything is asked, or every part is there or says why not, and comes back."""
    given_ = {n: v for n, v in options.items() if n not in ("model", "data")}
    with tempfile.TemporaryDirectory() as folder:
        found = None
        with contextlib.suppress(InputError):
            found = ww.audit(options["model"], options["data"], out=folder, quiet=True, **given_)
        if found is None:
            assert not list(Path(folder).rglob("cells/*.json"))
            return
        assert not [why for why in found.left_out.values() if not why or "fault of whatwhere" in why]
        assert set(found.left_out) | set(found.parts) == set(asked.PARTS)
        assert (Path(folder) / "index.html").exists()
        assert ww.load_result(folder).conclusion == found.conclusion
        again = ww.audit(options["model"], options["data"], out=folder, quiet=True, **given_)
        assert json.dumps(again.parts) == json.dumps(found.parts)
