"""Folders that cannot be opened say why; what a name stands for."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import whatwhere as ww
from whatwhere.errors import InputError
from whatwhere.models.opened import Config, opened, saved_at, writer_of
from whatwhere.models.saved import save
from whatwhere.surgery import surgeries

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    net = ww.load_model("cifar/vgg11", classes=3, width=1 / 16)
    return save(ww.need.collapse(net, "last 38%"), tmp_path / "small")


def changed(folder: Path, change: Change) -> None:
    plain = json.loads((folder / "config.json").read_text())
    change(plain)
    (folder / "config.json").write_text(json.dumps(plain))


def test_a_config_is_read_as_it_was_written(folder: Path) -> None:
    config = Config.read(folder)
    assert (config.written_by, config.base.name, config.input_size) == ("ww.save", "cifar/vgg11", (3, 32, 32))
    assert config.preprocessing == ww.load_model("cifar/vgg11").preprocessing
    assert config.surgery[0]["do"] == "need.collapse"
    changed(folder, lambda c: c["preprocessing"].update(mean=[0, 0, 0], crop_pct=1, size=[8, 8]))  # JSON has one number
    assert Config.read(folder).preprocessing.mean == (0.0, 0.0, 0.0)
    assert opened(folder).preprocessing.size == (8, 8)


CHANGES: list[tuple[Change, str]] = [
    (
        lambda c: c.update(schema=2),
        r"config\.json has schema 2 \(written with whatwhere 0\..*\), and whatwhere .* update",
    ),
    (lambda c: c["surgery"][0].update(do="need.future"), "surgery='need.future' matches nothing. Did you mean"),
    (lambda c: c["surgery"][0].update(do="os.system"), "surgery='os.system' matches nothing. Choices: need.collapse"),
    (lambda c: c["surgery"][0]["options"].update(speed=3), "surgery='need.collapse' cannot be done with .*'speed': 3"),
    (lambda c: c["surgery"][0]["options"].update(site="features.99"), "sites='features.99' matches nothing"),
    (
        lambda c: c["surgery"].clear(),
        r"its weights do not fit: features\.\d+\.weight is \(32, 32, 1, 1\) among them, and \(32, 32, 3, 3\)",
    ),
    (lambda c: c.update(fingerprint="0" * 16), "weights.safetensors is not the file that config.json was written with"),
    (lambda c: c.update(layers="0" * 16), "its weights fit, and yet cifar/vgg11 and its surgery make other layers now"),
    (lambda c: c["base"].update(name="cifar/vgg99"), "model='cifar/vgg99' matches nothing"),
    (lambda c: c["base"].update(width=0.125), r"its weights do not fit: .* is \(4, 3, 3, 3\) among them, and \(8, 3"),
    (lambda c: c.pop("base"), r"config\.json is damaged \(missing value for field \"base\"\); save the network again"),
    (lambda c: c.update(surgery="all"), r"config\.json is damaged"),
    (lambda c: c.update(surgery=[{"do": 1}]), r"config\.json is damaged \(surgery without do and options\)"),
    (lambda c: c["preprocessing"].update(std=[0.0]), r"config\.json is damaged \(preprocessing"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_folder_that_cannot_be_opened_says_why(folder: Path, change: Change, said: str) -> None:
    changed(folder, change)
    with pytest.raises(InputError, match=said):
        opened(folder)


def test_files_that_are_damaged_or_missing(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    content, tensors = weights.read_bytes(), load_file(weights)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, weights)
    with pytest.raises(InputError, match=r"is not the file that config\.json was written with"):
        opened(folder)
    weights.write_bytes(content[:-100])
    with pytest.raises(InputError, match=r"model='.*small': weights='.*' cannot be read"):
        opened(folder)
    weights.unlink()
    with pytest.raises(InputError, match=r"model='.*small': weights='.*weights\.safetensors': there is no such file"):
        opened(folder)
    (folder / "config.json").write_text('{"format": "whatwhere network"')
    with pytest.raises(InputError, match=r"holds a config\.json that whatwhere did not write"):
        saved_at(str(folder))


def test_layers_that_another_version_describes_otherwise_are_a_warning(folder: Path) -> None:
    changed(folder, lambda c: (c.update(layers="0" * 16), c["versions"].update(torch="1.0")))
    with pytest.warns(UserWarning, match=r"described otherwise \(saved with torch 1\.0; now torch .*\); evaluate it"):
        opened(folder)


# ---- names


def test_what_a_name_stands_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert [saved_at(n) for n in ("small", "./small", "~/small")] == [Path("small"), Path("small"), folder]
    assert [saved_at(n) for n in ("cifar/vgg11", "my_nets:make", "", "nothing", "out/nothing")] == [None] * 5
    assert (writer_of(folder), writer_of(folder.parent)) == ("ww.save", "")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("./nothing", "does not exist; give a folder that ww.save or `whatwhere need collapse` wrote"),
        ("nothing/at/all.pt", "does not exist"),
        ("empty", "is a folder without config.json, so that nothing says which network it holds."),
        ("trained", "its weights go with a name: --model NAME --weights trained/weights.safetensors"),
        ("hf", "holds a config.json that whatwhere did not write"),
        (
            "w.safetensors",
            "is a file; a file of weights goes with a network's name: --model NAME --weights w.safetensors",
        ),
    ],
)
def test_a_path_that_is_no_saved_network(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("empty/x.txt", "trained/weights.safetensors", "hf/config.json", "w.safetensors"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
    with pytest.raises(InputError) as error:
        ww.load_model(name)
    assert str(error.value).startswith(f"model={name!r} ")
    assert said in str(error.value)


# ---- networks of the user's own


NETS = """
from torch import nn
import whatwhere as ww

class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        return 2 * x

def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def gated():
    net = ww.load_model("cifar/resnet20", classes=3, width=0.25)
    return ww.use.recalibrate(net, Gate)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    (tmp_path / "nets_to_save.py").write_text(NETS)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("nets_to_save", None)


def test_a_function_makes_its_network_again_and_only_what_came_after_is_redone(own: Path) -> None:
    for name, site in (("nets_to_save:plain", "2"), ("nets_to_save:gated", "layers.2.1")):
        net = ww.load_model(name)
        for made in (net, ww.need.collapse(net, site, input_size=(3, 32, 32))):
            again = ww.load_model(save(made, "saved"))
            x = torch.randn(2, 3, 32, 32)
            assert torch.equal(again.module(x), made.module(x))
            assert surgeries(again) == surgeries(made)
            assert again.base == made.base
    assert [r["do"] for r in json.loads((own / "saved/config.json").read_text())["surgery"]] == ["need.collapse"]
    assert surgeries(again)[0]["objects"]


def test_a_function_that_is_gone_or_makes_another_network_is_named(own: Path) -> None:
    save(ww.load_model("nets_to_save:plain"), "saved")
    sys.modules.pop("nets_to_save")
    (own / "nets_to_save.py").write_text(NETS.replace("nn.ReLU()", "nn.GELU()  "))
    with pytest.raises(
        InputError, match="its weights fit, and yet nets_to_save:plain and its surgery make other layers"
    ):
        ww.load_model("saved")
    sys.modules.pop("nets_to_save")
    (own / "nets_to_save.py").unlink()
    with pytest.raises(InputError, match=r"model='saved': model='nets_to_save:plain': there is no module"):
        ww.load_model("saved")
