from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.models.cifar import make
from whatwhere.models.load import load_model
from whatwhere.models.weights import about_weights, load_weights, random_weights, read_tensors, save_weights
from whatwhere.network import Network

SMALL = {"width": 0.25, "classes": 3}
NET = make("resnet20", seed=9, **SMALL)


def test_weights_behind_a_prefix_arrive_even_strictly(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"model": {f"module.{n}": t for n, t in NET.state_dict().items()}, "epoch": 3}, file)
    with pytest.warns(UserWarning, match=r"the prefix 'module\.' is taken off \d+ of"):
        net = load_model("cifar/resnet20", weights=file, width=0.25, classes=3)
    assert all(torch.equal(t, net.module.state_dict()[n]) for n, t in NET.state_dict().items())
    assert random_weights(net) == []


def test_weights_that_hold_a_part_are_said_there_and_in_reports(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({n: t for n, t in NET.state_dict().items() if not n.startswith("fc")} | {"other": torch.ones(2)}, file)
    said = r"without 'fc\.weight', 'fc\.bias'\."
    with pytest.warns(UserWarning, match=rf"{said} 1 of the file's \d+ tensors are left out: 'other'"):
        net = load_model("cifar/resnet20", weights=file, strict=False, width=0.25, classes=3)
    (note,) = random_weights(net)
    assert note.startswith("cifar/resnet20 has random weights in part: weights=")
    assert "'fc.weight', 'fc.bias'" in note
    net.module.fc.weight.data.add_(1)  # trained since
    assert random_weights(net) == []


def test_nothing_that_arrives_is_an_error_with_a_name_of_each_side(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"encoder.block.weight": torch.ones(2), "encoder.block.bias": torch.ones(2)}, file)
    for strict in (True, False):
        with pytest.raises(
            InputError, match=r"no tensor of this network's; the file has 'encoder.*' and 1 more.*'conv1"
        ):
            load_weights(NET, file, strict=strict)


@pytest.mark.parametrize(("value", "kind"), [(torch.nan, "NaN"), (torch.inf, "infinity")])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float, kind: str) -> None:
    file, state = tmp_path / "w.safetensors", {n: t.clone() for n, t in NET.state_dict().items()}
    state["layers.0.0.conv1.weight"][0, 0, 0, :2] = value
    save_file(state, file)
    with pytest.raises(InputError, match=rf"weights='.*': layers\.0\.0\.conv1\.weight holds {kind} in 2 of its"):
        load_model("cifar/resnet20", weights=file, width=0.25, classes=3)


def test_a_wrong_size_is_named_with_both_shapes(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(dict(NET.state_dict()), file)
    with pytest.raises(
        InputError, match=r"size mismatch of 'fc\.bias' and 1 more, \(3,\) in the file and \(5,\) in the network"
    ):
        load_model("cifar/resnet20", weights=file, strict=False, width=0.25, classes=5)


def test_a_checkpoint_without_tensors_says_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"epoch": 3, "lr": 0.1}, file)
    with pytest.raises(InputError, match="holds no tensors by name; it holds 'epoch', 'lr'"):
        read_tensors(file)


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


def test_what_is_no_weights_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights='.*gone\.pt': there is no such file"):
        read_tensors(tmp_path / "gone.pt")


def test_random_weights_are_noted_until_they_change() -> None:
    module = line(0.5)
    drawn = Network(module, name="net", drawn=fingerprint(module))
    (note,) = random_weights(drawn)
    assert note.startswith("net has random weights")
    assert random_weights(Network(module, name="net")) == []  # given, not drawn
    with torch.no_grad():
        module.bias[0] += 1
    assert random_weights(drawn) == []
