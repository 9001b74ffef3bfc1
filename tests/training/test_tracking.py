"""What a training leaves in its log: the history's numbers, once each, also after an interruption."""

import csv
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.official import Official, OfficialReadOut, train_readouts
from whatwhere.hold.targets import targets_of
from whatwhere.training import checkpoint, tracking
from whatwhere.training.fit import fit
from whatwhere.training.recipes import Recipe
from whatwhere.training.tracking import check_log, logged, tracked

RECIPE = Recipe(epochs=3, batch_size=5, lr=0.05, crop_padding=1)


class Broken(Exception):
    pass


def metrics(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def breaking_at(last: int) -> Any:
    def on_step(done: int, total: int) -> None:
        if done == last:
            raise Broken

    return on_step


def test_a_csv_holds_the_history(pictures: Any, small_net: Any, tmp_path: Path) -> None:
    with tracked("csv", tmp_path, "first: a/b"):
        history = fit(small_net(), pictures(), RECIPE, device="cpu", test=pictures())
    rows = metrics(tmp_path / "first_a_b")
    assert [int(r["step"]) for r in rows] == [1, 2, 3]
    for row, record in zip(rows, history.epochs, strict=True):
        assert {k: float(v) for k, v in row.items() if k != "step"} == record


def test_tracking_changes_no_number_and_ends_with_its_block(pictures: Any, small_net: Any, tmp_path: Path) -> None:
    plain, other = small_net(), small_net()
    fit(plain, pictures(), RECIPE, device="cpu")
    with tracked("csv", tmp_path, "a"):
        fit(other, pictures(), RECIPE, device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(plain.module.parameters(), other.module.parameters(), strict=True))
    fit(small_net(), pictures(), RECIPE, device="cpu")
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


def test_a_training_that_goes_on_has_every_epoch_once(pictures: Any, small_net: Any, tmp_path: Path) -> None:
    how: dict[str, Any] = {"device": "cpu", "file": tmp_path / "checkpoint.pt"}
    with pytest.raises(Broken), tracked("csv", tmp_path, "a"):
        fit(small_net(), pictures(), RECIPE, on_step=breaking_at(2 * 4 + 1), **how)  # in the third epoch
    assert len(metrics(tmp_path / "a")) == 2
    with tracked("csv", tmp_path, "a"):
        history = fit(small_net(), pictures(), RECIPE, **how)
    rows = metrics(tmp_path / "a")
    assert [float(r["loss"]) for r in rows] == [e["loss"] for e in history.epochs]
    assert [int(r["step"]) for r in rows] == [1, 2, 3]


def test_a_second_training_of_a_cell_has_a_log_of_its_own(tmp_path: Path) -> None:
    with tracked("csv", tmp_path, "cell"):
        for loss in (1.0, 2.0):
            with logged() as log:
                log([{"loss": loss}])
    assert [metrics(tmp_path / name)[0]["loss"] for name in ("cell", "cell_2")] == ["1.0", "2.0"]


def test_the_official_read_out_logs_the_loss_of_each(tmp_path: Path) -> None:
    group = Group("all", (Tap("f", 2, (6, 6)),))
    x = torch.randn(8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    how = Official(epochs=2, batch_size=4)
    readouts = [OfficialReadOut(group, targets_of(["H"]), kernel=k, size=6, how=how) for k in (1, 3)]
    with tracked("csv", tmp_path, "official"), logged() as log:
        train_readouts(readouts, lambda epoch: ({"f": part} for part in x.split(4)), on_losses=log)
    rows = metrics(tmp_path / "official")
    assert len(rows) == 2
    assert float(rows[1]["loss all 1x1"]) < float(rows[0]["loss all 1x1"])
    assert float(rows[0]["loss all 3x3"]) > 0


def test_tensorboard_shows_the_history(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0, "enough": True}]
    for last in (2, 3):  # interrupted after two epochs
        with tracked("tensorboard", tmp_path, "a"), logged() as log:
            for n in range(1 if last == 2 else 3, last + 1):
                log(history[:n])
    shown = EventAccumulator(str(tmp_path / "a")).Reload()
    assert [(e.step, e.value) for e in shown.Scalars("loss")] == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert [e.step for e in shown.Scalars("enough")] == [3]


class Service:
    """Stands for wandb and trackio: runs by id or name, with what was logged."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, Any]] = {}
        self.ended = 0
        self.codes: list[int | None] = []
        self.told: list[dict[str, Any]] = []

    def init(self, **how: Any) -> Any:
        self.told.append(how)
        run = self.runs.setdefault(how.get("id") or how["name"], {})
        return SimpleNamespace(log=lambda values, step: run.__setitem__(step, values), finish=self.finish)

    def finish(self, exit_code: int | None = None) -> None:
        self.ended += 1
        self.codes.append(exit_code)


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_a_service_gets_the_epochs_and_goes_on_with_the_same_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, kind, service)  # type: ignore[arg-type]
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    history = [{"loss": 3.0}, {"loss": 2.0}, {"loss": 1.0}]
    for first, last in ((1, 2), (3, 3)):
        with tracked(kind, tmp_path, "a", {"seed": 1}), logged() as log:
            for n in range(first, last + 1):
                log(history[:n])
    (run,) = service.runs.values()
    assert run == {1: {"loss": 3.0}, 2: {"loss": 2.0}, 3: {"loss": 1.0}}
    assert service.ended == 2
    assert {t["resume"] for t in service.told} == {"allow"}
    assert service.told[0]["config"] == {"seed": 1}
    with tracked(kind, tmp_path / "other", "a"), logged() as log:
        log(history[:1])
    assert len(service.runs) == 2


class Client:
    """Stands for mlflow's."""

    runs: ClassVar[dict[str, dict[str, Any]]] = {}

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1") if self.runs else None

    def create_experiment(self, name: str) -> str:
        return "1"

    def search_runs(self, experiments: list[str], tags: str, max_results: int) -> list[Any]:
        return [SimpleNamespace(info=SimpleNamespace(run_id=key)) for key in self.runs if f"'{key}'" in tags]

    def create_run(self, experiment: str, run_name: str, tags: dict[str, str]) -> Any:
        (key,) = tags.values()
        self.runs[key] = {"name": run_name, "metrics": [], "params": {}, "ended": 0}
        return SimpleNamespace(info=SimpleNamespace(run_id=key))

    def log_param(self, run: str, key: str, value: Any) -> None:
        self.runs[run]["params"][key] = value

    def log_metric(self, run: str, key: str, value: float, step: int) -> None:
        self.runs[run]["metrics"].append((step, key, value))

    def set_terminated(self, run: str, status: str | None = None) -> None:
        self.runs[run]["ended"] += 1
        statuses.append(status or "FINISHED")

    def update_run(self, run: str, status: str) -> None:
        statuses.append(status)


statuses: list[str] = []


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("mlflow")
    module.MlflowClient = Client
    statuses.clear()
    monkeypatch.setattr(Client, "runs", {})
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    return module


def test_mlflow_finds_its_run_again(tmp_path: Path, mlflow: Any) -> None:
    for n in (1, 2):
        with tracked("mlflow", tmp_path, "a", {"seed": 1}), logged() as log:
            log([{"loss": 3.0}, {"loss": 2.0}][:n])
    (run,) = Client.runs.values()
    expected = {"name": "a", "metrics": [(1, "loss", 3.0), (2, "loss", 2.0)], "params": {"seed": "1"}, "ended": 2}
    assert run == expected
    assert statuses == ["FINISHED", "RUNNING", "FINISHED"]


def test_an_experiment_that_another_process_makes_meanwhile_is_taken(
    tmp_path: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers on a fresh server: both find none, one makes it."""
    made: list[str] = []

    def get(self: Client, name: str) -> Any:
        return SimpleNamespace(experiment_id="7") if made else None

    def create(self: Client, name: str) -> str:
        made.append(name)
        raise ConnectionError("Experiment 'whatwhere' already exists.")

    monkeypatch.setattr(Client, "get_experiment_by_name", get)
    monkeypatch.setattr(Client, "create_experiment", create)
    with tracked("mlflow", tmp_path, "a"), logged() as log:
        log([{"loss": 1.0}])
    assert len(Client.runs) == 1
    monkeypatch.setattr(Client, "get_experiment_by_name", lambda self, name: None)
    with pytest.raises(InputError, match="already exists"), tracked("mlflow", tmp_path, "a"), logged() as log:
        log.open()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(None, "FINISHED", None), (TrainingDiverged("nan"), "FAILED", 1), (KeyboardInterrupt(), "KILLED", 1)],
)
def test_how_a_training_ended_is_told(
    error: BaseException | None,
    status: str,
    code: int | None,
    tmp_path: Path,
    mlflow: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("tensorboard")
    service, told = Service(), []
    monkeypatch.setitem(sys.modules, "wandb", service)  # type: ignore[arg-type]
    monkeypatch.setattr(TensorBoardLogger, "finalize", lambda self, how: told.append(how))
    for kind in ("mlflow", "wandb", "tensorboard"):
        with pytest.raises(type(error)) if error else nullcontext():
            _trained_once(kind, tmp_path, error)
    assert statuses == [status]
    assert service.codes == [code]
    assert told == [{"FINISHED": "success"}.get(status, status.lower())]


def _trained_once(kind: str, folder: Path, error: BaseException | None) -> None:
    with tracked(kind, folder, "a"), logged() as log:
        log([{"loss": 1.0}])
        if error:
            raise error


# What goes wrong


class Flaky:
    """A tracker that is not there now and then."""

    whole = False

    def __init__(self, where: Any, name: str, done: int) -> None:
        self.got: list[int] = []
        self.down = self.down_at_the_end = False
        running.append(self)

    def add(self, epoch: int, values: dict[str, Any]) -> None:
        if self.down:
            raise ConnectionError("no answer")
        self.got.append(epoch)

    def close(self, outcome: str) -> None:
        if self.down_at_the_end:
            raise ConnectionError("no answer")


running: list[Flaky] = []


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> None:
    running.clear()
    monkeypatch.setattr(tracking, "_RUNS", {**tracking._RUNS, "csv": Flaky})


def test_a_tracker_that_is_gone_for_a_while_gets_every_epoch(
    flaky: None, pictures: Any, small_net: Any, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    plain, net = small_net(), small_net()
    recipe = Recipe(epochs=5, batch_size=5, lr=0.05, crop_padding=1)

    def on_step(done: int, total: int) -> None:
        running[0].down = 4 < done <= 12  # of four steps an epoch: in the second and third

    fit(plain, pictures(), recipe, device="cpu")
    with tracked("csv", tmp_path, "a"):
        fit(net, pictures(), recipe, device="cpu", on_step=on_step)
    assert running[0].got == [1, 2, 3, 4, 5]
    (said,) = [str(w.message) for w in recwarn if "log=" in str(w.message)]
    assert said.startswith("log='csv': epoch 2 could not be logged (ConnectionError: no answer); it is tried again")
    assert all(torch.equal(a, b) for a, b in zip(plain.module.parameters(), net.module.parameters(), strict=True))


def _logged(history: list[dict[str, float]], *, back: bool) -> None:
    """Log a history at once to a tracker that is down, and is back at the end or not."""
    with logged() as log:
        log.open()
        running[-1].down = running[-1].down_at_the_end = True
        log(history)
        running[-1].down = running[-1].down_at_the_end = not back


def test_what_is_missing_at_the_end_is_sent_once_more_and_else_said(
    flaky: None, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with tracked("csv", tmp_path, "a"):
        _logged([{"loss": 3.0}, {"loss": 2.0}], back=True)
        assert running[0].got == [1, 2]
        assert "epoch 1 could not be logged" in str(recwarn.pop().message)
        assert len(recwarn) == 0
        _logged([{"loss": 3.0}, {"loss": 2.0}], back=False)
    assert "what follows epoch 0 is not in the log" in str(recwarn[-1].message)


def _broken_while_down() -> None:
    with logged() as log:
        log.open()
        running[0].down_at_the_end = True
        raise Broken


def test_a_tracker_that_does_not_close_hides_no_error(
    flaky: None, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with tracked("csv", tmp_path, "a"), pytest.raises(Broken):
        _broken_while_down()
    assert ["could not be closed" in str(w.message) for w in recwarn] == [True]


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_a_log_that_cannot_be_opened_is_said_before_the_first_epoch(
    kind: str, pictures: Any, small_net: Any, tmp_path: Path
) -> None:
    if kind == "tensorboard":
        pytest.importorskip("tensorboard")
    (tmp_path / "logs").write_text("a file")
    steps: list[int] = []
    said = rf"log='{kind}' cannot be opened \(.*logs.*; see that .*logs can be written"
    with tracked(kind, tmp_path / "logs", "a"), pytest.raises(InputError, match=said):
        fit(small_net(), pictures(), RECIPE, device="cpu", on_step=lambda done, total: steps.append(done))
    assert steps == []


def test_a_service_that_does_not_answer_is_said_before_the_first_epoch(
    tmp_path: Path, mlflow: Any, pictures: Any, small_net: Any
) -> None:
    def client() -> Any:
        raise ConnectionError("no route")

    mlflow.MlflowClient = client
    said = r"log='mlflow' cannot be opened \(ConnectionError: no route\); see that it can"
    with tracked("mlflow", tmp_path, "a"), pytest.raises(InputError, match=said):
        fit(small_net(), pictures(), RECIPE, device="cpu", on_step=lambda done, total: 1 / 0)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of one second are read in the order of their numbers as text, where 10 comes before 9."""
    event_file_writer = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))


def tensorboard_of(folder: Path) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [(e.step, e.value) for e in EventAccumulator(str(folder)).Reload().Scalars("loss")]


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_beside_the_checkpoint_loses_no_epoch(
    kind: str, when: str, pictures: Any, small_net: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: None
) -> None:
    how: dict[str, Any] = {"device": "cpu", "file": tmp_path / "checkpoint.pt"}
    save = checkpoint.save

    def killed(path: Path, progress: Any, *given: Any, **about: Any) -> None:
        if when == "after" or progress.epoch < 2:
            save(path, progress, *given, **about)
        if progress.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with tracked(kind, tmp_path, "a"), pytest.raises(KeyboardInterrupt):
        fit(small_net(), pictures(), RECIPE, **how)
    monkeypatch.setattr(checkpoint, "save", save)
    with tracked(kind, tmp_path, "a"):
        history = fit(small_net(), pictures(), RECIPE, **how)
    if kind == "csv":
        shown = [(int(r["step"]), float(r["loss"])) for r in metrics(tmp_path / "a")]
    else:
        shown = tensorboard_of(tmp_path / "a")
    assert [step for step, _ in shown] == [1, 2, 3]
    assert [loss for _, loss in shown] == pytest.approx([e["loss"] for e in history.epochs])


def test_a_training_that_was_complete_keeps_its_csv(pictures: Any, small_net: Any, tmp_path: Path) -> None:
    for _ in range(2):
        with tracked("csv", tmp_path, "a"):
            fit(small_net(), pictures(), RECIPE, device="cpu", file=tmp_path / "checkpoint.pt")
    assert len(metrics(tmp_path / "a")) == 3
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["metrics.csv"]


def test_tensorboard_shows_each_epoch_once_after_a_write_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder, counted: None
) -> None:
    flush = TensorBoardLogger.save
    full = [True]

    def save(self: Any) -> None:
        flush(self)
        if full:
            full.pop()
            raise OSError("disk full")

    history = [{"loss": 3.0}, {"loss": 2.0}]
    with tracked("tensorboard", tmp_path, "a"), logged() as log:
        monkeypatch.setattr(TensorBoardLogger, "save", save)
        for n in (1, 2):
            log(history[:n])
    assert tensorboard_of(tmp_path / "a") == [(1, 3.0), (2, 2.0)]
    assert "disk full" in str(recwarn[0].message)


@pytest.mark.filterwarnings("ignore:log='csv'. epoch 1 could not be logged")
def test_a_csv_has_each_epoch_once_after_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [{"loss": 3.0}, {"loss": 2.0, "more": 1.0}]
    with tracked("csv", tmp_path, "a"), logged() as log:
        log.open()
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", lambda self, to: 1 / 0)
            log(history[:1])
        log(history)
    rows = metrics(tmp_path / "a")
    assert rows == [{"loss": "3.0", "more": "", "step": "1"}, {"loss": "2.0", "more": "1.0", "step": "2"}]


def test_what_is_unknown_or_missing_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"log='csvv'.*csv"):
        check_log("csvv")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"log='wandb': wandb is not installed; `pip install wandb` adds it"):
        check_log("wandb")
    check_log("csv")
