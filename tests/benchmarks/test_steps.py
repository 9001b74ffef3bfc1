"""Steps of the run-book as processes: stopped in time, side by side, gone on with, under NVIDIA's service."""

import json
import os
import sys
import threading
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from whatwhere.cli import main as whatwhere

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

gpu, run_book, steps = (import_module(name) for name in ("gpu", "run_book", "steps"))
book = run_book.book


def test_what_is_finished_of_an_entry_becomes_a_result(tmp_path, monkeypatch):
    """The next call goes on."""
    folders = gpu.toy_data(tmp_path / "toy") | {"out": str(tmp_path), "device": "cpu"}
    entry = book()[0]
    begun = entry.steps[0].words(folders, dry=True, device="cpu", quiet="true")
    whatwhere(begun)
    (tmp_path / "vgg16" / "table.csv").unlink()
    state = steps.State(tmp_path)
    runner = steps.Runner(state, folders, "cpu", 0, False, time.monotonic() - 1)
    monkeypatch.setattr(runner.__class__, "_words", lambda self, step, **more: ["whatwhere", *begun, *_options(more)])
    runner.fold(entry)
    assert (tmp_path / "vgg16" / "table.csv").exists()
    assert state.left(entry) == list(entry.steps)


def _options(more: dict[str, str]) -> list[str]:
    return [word for name, value in more.items() for word in (f"--{name}", value)]


def test_a_command_is_stopped_as_ctrl_c_would(tmp_path, monkeypatch, capsys):
    script = tmp_path / "long.py"
    script.write_text(
        "import time, pathlib\ntry:\n    pathlib.Path('begun').touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    pathlib.Path('stopped').touch(); raise SystemExit(130)\n"
    )
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    assert steps._typed(["python", str(script)], 3.0) is False
    assert (tmp_path / "stopped").exists()
    assert steps._typed(["python", "-c", ""], 30.0) is True
    assert steps._typed(["python", "-c", "raise SystemExit(3)"], 30.0) is False
    assert "failed with status 3" in capsys.readouterr().out


def test_the_state_is_kept_beside_the_results(tmp_path):
    state = steps.State(tmp_path, ["vit 1"], {"vit": 3.5}, {"gpus": []})
    state.keep()
    assert steps.State.of(tmp_path) == state
    assert json.loads((tmp_path / "state.json").read_text())["done"] == ["vit 1"]


LONG = """import pathlib, time
try:
    pathlib.Path('begun').touch()
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path('stopped').touch()
"""


def entry(name: str, command: str, *, beside: bool = False):
    return run_book.Entry(name, "", "", (run_book.Step(command, {"out": "{out}/x"}),), beside)


@pytest.fixture
def runner(tmp_path):
    return steps.Runner(steps.State(tmp_path), {"out": str(tmp_path)}, "cpu", 0, False, time.monotonic() + 60)


def test_entries_of_one_network_run_beside_the_others_and_what_is_timed_runs_alone(tmp_path, runner, monkeypatch):
    said, other_ran = [], threading.Event()

    def step(self, step, log):
        assert step.command != "train" or other_ran.wait(30)  # so it did not have to end first
        if step.command == "need trained":
            other_ran.set()
        said.append((step.command, log and log.name))
        return True

    monkeypatch.setattr(steps.Runner, "_step", step)
    steps.run_all(runner, [entry("vit", "train", beside=True), entry("speed", "time.py"), entry("vgg", "need trained")])
    assert said == [("need trained", None), ("train", "vit.log"), ("time.py", None)]
    done = sorted(steps.State.of(tmp_path).done)
    assert [name[: name.rindex(" ")] for name in done] == ["speed 1", "vgg 1", "vit 1"]


def two_steps() -> "run_book.Entry":
    (step,) = entry("vit", "train").steps
    return run_book.Entry("vit", "", "", (step, step), beside=True)


def test_ctrl_c_reaches_what_runs_beside_and_nothing_begins_after_it(tmp_path, runner, monkeypatch):
    """Though the command ends well, it did not end by itself."""
    monkeypatch.setattr(steps, "ROOT", tmp_path)

    def step(self, step, log):
        if step.command == "train":
            return steps._typed(["python", "-c", LONG], 60.0, log)
        while not (tmp_path / "begun").exists():
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(steps.Runner, "_step", step)
    with pytest.raises(KeyboardInterrupt):
        steps.run_all(runner, [two_steps(), entry("vgg", "need trained")])
    assert (tmp_path / "stopped").exists()
    assert not steps.RUNNING
    assert steps.State.of(tmp_path).done == []
    assert steps._typed(["python", "-c", "raise SystemExit('begun')"], 60.0) is False


def test_what_does_not_obey_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "GRACE", 0)
    steps.STOP.clear()
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    started = time.monotonic()
    assert steps._typed(["python", "-c", deaf], 3.0) is False
    assert time.monotonic() - started < 20
    assert not steps.RUNNING


def test_no_step_takes_longer_than_is_left(tmp_path, runner, monkeypatch):
    steps.STOP.clear()
    monkeypatch.setattr(steps, "ROOT", tmp_path)
    monkeypatch.setattr(steps.Runner, "_words", lambda *_, **__: ["python", "-c", LONG])
    late = replace(runner, until=time.monotonic() + 2)
    assert late.run(entry("vgg", "need trained")) is False
    assert (tmp_path / "stopped").exists()


def test_when_the_time_is_over_nothing_begins_and_what_is_there_is_folded(tmp_path, runner, monkeypatch, capsys):
    folded: list[str] = []

    def fold(self, entry):
        folded.append(entry.name)
        raise OSError("no room")

    monkeypatch.setattr(steps.Runner, "_step", lambda *_: pytest.fail("begun"))
    monkeypatch.setattr(steps.Runner, "fold", fold)
    entries = [entry("vit", "train", beside=True), entry("vgg", "need trained"), entry("speed", "time.py")]
    late = replace(runner, until=time.monotonic() - 1)
    steps.run_all(late, entries)
    steps.fold_all(late, entries)
    assert folded == ["vit", "vgg", "speed"]
    assert capsys.readouterr().out.count("no room") == 3


def test_seconds_of_an_entry_add_up(tmp_path):
    state, one = steps.State(tmp_path), entry("vgg", "need trained")
    state.spent(one, 0, 2.0, finished=False)
    state.spent(one, 0, 3.0, finished=True)
    there = steps.State.of(tmp_path)
    assert (there.has(one, 0), there.seconds) == (True, {"vgg": 5.0})


def test_a_step_whose_options_have_changed_is_not_finished(tmp_path):
    state, one = steps.State(tmp_path), entry("vgg", "need trained")
    state.spent(one, 0, 3.0, finished=True)
    (step,) = one.steps
    other = replace(one, steps=(replace(step, options={**step.options, "epochs": "9"}),))
    assert (state.left(one), state.left(other)) == ([], list(other.steps))


@pytest.mark.parametrize("dry", [True, False])
def test_toy_and_full_size_do_not_go_on_in_one_folder(dry, tmp_path):
    """Toys would be taken for finished, and published beside the papers' numbers."""
    state = steps.State.of(tmp_path, dry=dry)
    state.keep()
    assert steps.State.of(tmp_path, dry=dry) == state
    with pytest.raises(SystemExit, match=r"dry run's, and this is (none|one); give another folder"):
        steps.State.of(tmp_path, dry=not dry)


def test_trainings_of_one_network_run_beside_the_others():
    assert [e.name for e in book() if e.beside] == ["vit-learned", "vit-none", "say"]


def test_without_the_service_it_is_said(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(steps.PIPES, "theirs")
    with pytest.raises(SystemExit, match="--mps: nvidia-cuda-mps-control is not here"), steps.served(True):
        pytest.fail("went on")
    assert os.environ[steps.PIPES] == "theirs"


def test_the_service_has_a_folder_of_its_own_and_ends(tmp_path, monkeypatch):
    script = tmp_path / steps.SERVICE
    script.write_text(
        f'#!/bin/sh\n[ "$1" ] || read said\necho "$1$said $CUDA_MPS_PIPE_DIRECTORY" >> {tmp_path}/calls\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with steps.served(False):
        assert steps.PIPES not in os.environ
    folders = []

    def interrupted() -> None:
        with steps.served(True):
            folders.append(os.environ[steps.PIPES])
            assert Path(folders[0]).is_dir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "calls").read_text().splitlines() == [f"-d {folders[0]}", f"quit {folders[0]}"]
    assert not {steps.PIPES, steps.LOGS} & set(os.environ)
