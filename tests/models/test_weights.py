"""Weights in files: they come back in place, with what is said about them, and say what is wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.models.weights import about_weights, load_weights, random_weights, read_tensors, save_weights
from whatwhere.network import Network


def line(value: float) -> nn.Linear:
    net = nn.Linear(2, 3)
    with torch.no_grad():
        net.weight.fill_(value)
        net.bias.fill_(-value)
    return net


def test_weights_come_back_in_place(tmp_path: Path) -> None:
    save_weights(line(2.5), tmp_path / "new" / "w.safetensors")
    net = line(0.0)
    before = net.weight.data_ptr()
    load_weights(net, str(tmp_path / "new" / "w.safetensors"))
    assert net.weight.unique().tolist() == [2.5]
    assert net.bias.unique().tolist() == [-2.5]
    assert net.weight.data_ptr() == before
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["w.safetensors"]


def test_texts_are_kept_in_the_files_head(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_weights(line(1.0), file, about={"site": "layer4.0", "empty": ""})
    assert about_weights(file) == {"site": "layer4.0", "empty": ""}
    save_weights(line(1.0), file)
    assert about_weights(file) == {}
    (tmp_path / "other").write_text("not one")
    assert about_weights(tmp_path / "other") == about_weights(tmp_path / "missing") == {}


def test_tensors_are_stored_as_they_lie_in_memory_or_not(tmp_path: Path) -> None:
    net = nn.Conv2d(2, 3, 2).to(memory_format=torch.channels_last)
    save_weights(net, tmp_path / "w.safetensors")
    assert torch.equal(load_file(tmp_path / "w.safetensors")["weight"], net.weight)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_checkpoint_of_torch_is_read_with_or_without_its_wrapping(tmp_path: Path, wrapped: bool) -> None:
    state = line(2.5).state_dict()
    torch.save({"epoch": 3, "state_dict": state} if wrapped else state, tmp_path / "w.pt")
    found = read_tensors(tmp_path / "w.pt")
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in state.items()}


def test_weights_that_do_not_fit_are_refused_and_nothing_changes(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(4, 2), "bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    net = line(1.5)
    with pytest.raises(InputError, match=r"w\.safetensors' do not fit the network: .*size mismatch"):
        load_weights(net, tmp_path / "w.safetensors")
    assert net.weight.unique().tolist() == [1.5]


def test_what_is_no_weights_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights='.*gone\.pt': there is no such file"):
        read_tensors(tmp_path / "gone.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match="holds a list, not a state_dict"):
        read_tensors(tmp_path / "list.pt")


def test_random_weights_are_noted_until_they_change() -> None:
    module = line(0.5)
    drawn = Network(module, name="net", drawn=fingerprint(module))
    (note,) = random_weights(drawn)
    assert note.startswith("net has random weights")
    assert random_weights(Network(module, name="net")) == []  # given, not drawn
    with torch.no_grad():
        module.bias[0] += 1
    assert random_weights(drawn) == []
