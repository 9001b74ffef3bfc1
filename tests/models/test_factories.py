import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import whatwhere as ww
from small_choice import on_demand
from whatwhere.errors import InputError
from whatwhere.lab.sources import GivenNetwork
from whatwhere.models.factories import network_at
from whatwhere.models.load import load_model
from whatwhere.models.weights import random_weights, save_weights

Write = Callable[[str, str], None]
NETS = """
import random
import torch
from torch import nn
import whatwhere as ww

def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

def dressed():
    return ww.Network(small(), ww.Preprocessing(mean=(0.1,)), "mine", (3, 32, 32))

def by_chance():
    net = small()
    net[0].bias.data.fill_(random.random())
    return net

class Own(nn.Sequential):
    def __init__(self):
        super().__init__(*small())

ready, number = small(), 7

def wants(classes):
    return small()

def text():
    return "a network"

def breaks():
    raise OSError("no such file: weights.pt")
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """A directory that is the current one; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield lambda name, text: (tmp_path / name).write_text(text) and None
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_function_makes_the_network_and_the_seed_its_weights(write: Write) -> None:
    write("my_nets.py", NETS)
    state = torch.get_rng_state()
    one, again, other = (load_model("my_nets:small", seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.module[0].weight, again.module[0].weight)
    assert not torch.equal(one.module[0].weight, other.module[0].weight)
    assert one.name == "my_nets:small"
    assert not one.module.training
    assert random_weights(one) == []  # it may have loaded weights
    assert load_model("my_nets:dressed").preprocessing.mean == (0.1,)
    assert load_model("my_nets:Own").module[0].out_channels == 4
    assert load_model("my_nets:ready").module is sys.modules["my_nets"].ready


def test_a_package_is_found_and_weights_are_loaded_into_the_network(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    write("mine/__init__.py", "")
    write("mine/other.py", "from mine import nets")  # found from the same directory
    write("mine/nets.py", NETS)
    save_weights(load_model("mine.nets:small", seed=9).module, tmp_path / "w.safetensors")
    net = load_model("mine.nets:small", weights=tmp_path / "w.safetensors")
    assert torch.equal(net.module[0].weight, load_model("mine.nets:small", seed=9).module[0].weight)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere:small",
            "there is no module 'nowhere' in {here} or on Python's path; run the command in the directory",
        ),
        ("nowhere.nets:small", "there is no module 'nowhere' in {here}"),
        ("my_nets.py:small", "give an import path such as my_nets:function, not a file"),
        ("my_nets:smal", "matches nothing. Did you mean 'my_nets:small'"),
        ("my_nets:", "matches nothing"),
        ("my_nets:number", "is a int; give 'package.module:function', a function without arguments"),
        ("my_nets:wants", "is called without arguments, and that fails: missing a required argument: 'classes'"),
        ("my_nets:text", "returns a str; expected a torch.nn.Module or a whatwhere.Network"),
        ("my_nets:breaks", "the call fails with OSError: no such file: weights.pt"),
        ("broken:small", "importing broken fails with SyntaxError"),
        ("needs:small", "importing needs fails with ModuleNotFoundError: No module named 'not_installed'"),
    ],
)
def test_every_mistake_has_its_message(write: Write, tmp_path: Path, name: str, message: str) -> None:
    write("my_nets.py", NETS)
    write("broken.py", "def small(:")
    write("needs.py", "import not_installed")
    with pytest.raises(InputError) as caught:
        load_model(name)
    assert f"model={name!r}" in str(caught.value)
    assert message.format(here=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_of_libraries_and_too_few_scores_are_refused(write: Write) -> None:
    write("my_nets.py", NETS)
    for options in ({"width": 0.5}, {"pretrained": True}):
        with pytest.raises(InputError, match="for networks of libraries; my_nets:small decides them itself"):
            load_model("my_nets:small", **options)
    with pytest.raises(InputError, match="gives 10 scores, and 11 classes are to be told apart"):
        load_model("my_nets:small", classes=11)
    assert network_at("my_nets:small", classes=10).name == "my_nets:small"


@on_demand
def test_a_study_runs_on_it_in_other_processes_too(write: Write, tmp_path: Path) -> None:
    write("my_nets.py", NETS)
    options = {"sites": ["2"], "methods": ["per-channel"], "repeats": 2, "limit": 20, "within": None}
    here = ww.need.Curve("my_nets:small", "digits", **options).run("here", quiet=True)
    away = ww.need.Curve("my_nets:small", "digits", **options).run("away", quiet=True, workers=1)
    assert here.points == away.points
    assert here.network == "my_nets:small"


def test_a_function_that_gives_another_network_each_time_is_refused(write: Write) -> None:
    write("my_nets.py", NETS)
    from whatwhere.lab.sources import network_named

    given = GivenNetwork.of("my_nets:by_chance")
    network_named.cache_clear()  # as in another process
    with pytest.raises(InputError, match=r"other weights in each process.*torch's generator"):
        given.net  # noqa: B018
    same = GivenNetwork.of("my_nets:small")
    network_named.cache_clear()
    assert same.net.name == "my_nets:small"
