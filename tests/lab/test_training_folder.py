import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import whatwhere as ww
from small_choice import on_demand
from whatwhere.cli import main
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab import training_folder
from whatwhere.lab.training_folder import trained_in

RECIPE = ww.Recipe(epochs=1, batch_size=32, lr=0.02, crop_padding=0, flip=False)


@pytest.fixture(scope="module")
def few() -> Data:
    data = ww.load_data("digits")
    return Data("few", {"train": data.train.take(64), "test": data.test.take(20)})


def train(folder: Path, data: Data, seed: int = 0, **options: bool) -> None:
    net = ww.load_model("cifar/vgg11", classes=10, width=1 / 16, seed=seed)
    trained_in(folder, net, data, RECIPE, {}, device="cpu", **options)


@pytest.mark.parametrize("name", ["weights.safetensors", "history.json", "start.json", "config.json"])
def test_files_of_others_are_not_replaced_unless_told_to(name: str, tmp_path: Path, few: Data) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        InputError, match=rf"{name} is there already, and this command did not write it.*overwrite=true"
    ):
        train(tmp_path, few)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {name: "{}"}
    train(tmp_path, few, overwrite=True)
    assert (tmp_path / "weights.safetensors").stat().st_size > 1000


def test_trained_weights_outlive_another_training_although_the_checkpoint_is_gone(tmp_path: Path, few: Data) -> None:
    train(tmp_path, few)
    kept = (tmp_path / "weights.safetensors").read_bytes()
    (tmp_path / "checkpoint.pt").unlink()  # to save room
    with pytest.raises(InputError, match=r"holds a training \(weights\.safetensors\) that began with other weights"):
        train(tmp_path, few, seed=1)
    assert (tmp_path / "weights.safetensors").read_bytes() == kept
    train(tmp_path, few)  # the same one may be made again
    assert (tmp_path / "weights.safetensors").read_bytes() == kept


@pytest.mark.parametrize("command", [["train", "--model", "cifar/vgg11", "--data", "digits"], ["say", "train"]])
def test_both_commands_refuse_before_they_train(command: list[str], tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("whatwhere.lab.training_folder.fit", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "weights.safetensors").write_text("mine")
    where = [] if command[0] == "train" else ["--data", "drawn/streets", "--width", "0.25"]
    with pytest.raises(SystemExit) as left:
        main([*command, *where, "--out", str(tmp_path)])
    assert left.value.code == 2
    assert "weights.safetensors is there already" in capsys.readouterr().err
    assert (tmp_path / "weights.safetensors").read_text() == "mine"


def test_a_trained_network_is_opened_from_its_folder(tmp_path: Path, few: Data) -> None:
    train(tmp_path, few)
    net = ww.load_model(tmp_path)
    history = read_json(tmp_path / "history.json")
    assert ww.evaluate(net, few).loss == history["loss"]
    assert net.classes == tuple(few.classes)
    own = ww.Network(ww.load_model("cifar/vgg11", classes=10, width=1 / 16).module)  # of which no file can say anything
    trained_in(tmp_path / "own", own, few, RECIPE, {}, device="cpu")
    assert sorted(f.name for f in (tmp_path / "own").iterdir() if f.suffix == ".json") == ["history.json", "start.json"]


def test_a_second_call_at_once_waits_and_trains_nothing(tmp_path: Path, few: Data, monkeypatch) -> None:
    monkeypatch.setattr("whatwhere.lab.claims.LOOK", 0.01)
    inside, most, steps = [0], [0], list[int]()

    def slowly(*given, on_step, original=training_folder.fit, **options):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.1)
        history = original(*given, on_step=lambda done, total: steps.append(done), **options)
        inside[0] -= 1
        return history

    monkeypatch.setattr(training_folder, "fit", slowly)
    nets = [ww.load_model("cifar/vgg11", classes=10, width=1 / 16) for _ in range(2)]  # here: threads would mix draws
    both = [
        threading.Thread(target=trained_in, args=(tmp_path, net, few, RECIPE, {}), kwargs={"device": "cpu"})
        for net in nets
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert most == [1]
    assert steps == [1, 2]
    assert not (tmp_path / "training.claim").exists()


@on_demand
def test_of_processes_that_torchrun_starts_the_first_one_writes(tmp_path: Path) -> None:
    """The same command in both; the weights are those of one process to rounding (no batch norm in this network)."""
    train = ["-m", "whatwhere", "train", "--model", "small_unnormed:plain", "--data", "digits", "--epochs", "1"]
    train += ["--lr", "0.01"]  # at the recipe's rate rounding has grown to 1.2e-5 at the end
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    found = []
    for name, start in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        out = tmp_path / name
        done = subprocess.run(
            [sys.executable, *start, *train, "--device", "cpu", "--out", str(out)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found.append(load_file(out / "weights.safetensors"))
        assert json.loads((out / "history.json").read_text()).get("devices") == (2 if start else None)
    assert all(torch.allclose(v, found[1][k], rtol=0, atol=1e-5) for k, v in found[0].items())
