"""What a training leaves in its log: the history's numbers, once each, also after an interruption."""

import csv
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from whatwhere.errors import InputError
from whatwhere.hold.features import Group, Tap
from whatwhere.hold.official import Official, OfficialReadOut, train_readouts
from whatwhere.hold.targets import targets_of
from whatwhere.training import tracking
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
        self.told: list[dict[str, Any]] = []

    def init(self, **how: Any) -> Any:
        self.told.append(how)
        run = self.runs.setdefault(how.get("id") or how["name"], {})
        return SimpleNamespace(log=lambda values, step: run.__setitem__(step, values), finish=self.finish)

    def finish(self) -> None:
        self.ended += 1


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

    def set_terminated(self, run: str) -> None:
        self.runs[run]["ended"] += 1


def test_mlflow_finds_its_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "runs", {})
    mlflow: Any = ModuleType("mlflow")
    mlflow.MlflowClient = Client
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setattr(tracking, "find_spec", lambda name: name)
    for n in (1, 2):
        with tracked("mlflow", tmp_path, "a", {"seed": 1}), logged() as log:
            log([{"loss": 3.0}, {"loss": 2.0}][:n])
    (run,) = Client.runs.values()
    expected = {"name": "a", "metrics": [(1, "loss", 3.0), (2, "loss", 2.0)], "params": {"seed": "1"}, "ended": 2}
    assert run == expected


def test_what_is_unknown_or_missing_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"log='csvv'.*csv"):
        check_log("csvv")
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"log='wandb': wandb is not installed; `pip install wandb` adds it"):
        check_log("wandb")
    check_log("csv")
