"""A network that is saved is the same network in any other process; one that would not be is refused."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import whatwhere as ww
from whatwhere.data import Data
from whatwhere.errors import InputError
from whatwhere.models.saved import save, unsavable
from whatwhere.surgery import surgeries

VGG: dict[str, Any] = {"classes": 3, "width": 1 / 16}
RESNET: dict[str, Any] = {"classes": 3, "width": 0.25}


def vgg(**options: Any) -> ww.Network:
    return ww.load_model("cifar/vgg11", seed=5, **{**VGG, **options})


def resnet() -> ww.Network:
    return ww.load_model("cifar/resnet20", seed=5, **RESNET)


def shaken(net: ww.Network) -> ww.Network:
    """With other weights and statistics than any seed gives, in the layout that training leaves."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in net.module.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.2 * torch.rand(tensor.shape, generator=draws))
    net.module.to(memory_format=torch.channels_last)
    return net


def segmenter() -> ww.Network:
    return ww.load_model("pspnet/resnet18", classes=3, width=0.25)


NETWORKS = {
    "plain": vgg,
    "timm": lambda: ww.load_model("timm/test_resnet", classes=3),
    "vit": lambda: ww.load_model("timm/test_vit", classes=3),
    "torchvision": lambda: ww.load_model("torchvision/squeezenet1_1", classes=3),
    "collapsed": lambda: ww.need.collapse(vgg(), "last 38%"),
    "collapsed fresh": lambda: ww.need.collapse(vgg(), "last 38%", init="fresh", seed=4),
    "pointwise": lambda: ww.need.pointwise(resnet(), "layers.1.0", local="max"),
    "pointwise by size": lambda: ww.need.pointwise(
        replace(ww.load_model("timm/tf_efficientnet_lite0", classes=3), input_size=(3, 64, 64)), "blocks.3.0"
    ),
    "truncated": lambda: ww.need.truncate(vgg(), "last 38%", seed=4),
    "recalibrated": lambda: ww.use.recalibrate(resnet(), "ms_sar", scales=(1, 2), ratio=4),
    "padded": lambda: ww.hold.with_padding(resnet(), "circular"),
    "unpadded": lambda: ww.hold.with_padding(resnet(), "none", input_size=(3, 96, 96)),
    "bottlenecked": lambda: ww.say.bottleneck(segmenter(), "fuse", ["car", "road"], activation="softmax", group=2),
    "recalibrated, padded, collapsed": lambda: ww.need.collapse(
        ww.hold.with_padding(ww.use.recalibrate(resnet(), "se"), "reflect"), "layers.2.1"
    ),
    "collapsed, recalibrated": lambda: ww.use.recalibrate(
        ww.need.collapse(resnet(), "layers.2.0"), "se", sites="layers.0*"
    ),
    "untrained": lambda: ww.untrained(ww.need.collapse(vgg(), "last 38%"), 3),
}
OTHER_PROCESS = """
import sys, torch, whatwhere as ww
from pathlib import Path
from safetensors.torch import load_file, save_file
for folder in sorted(Path(sys.argv[1]).iterdir()):
    net = ww.load_model(str(folder))
    assert not net.module.training
    pictures = load_file(folder / "pictures.safetensors")
    with torch.no_grad():
        scores = {n: net.module(net.prepared(p) if n == "bytes" else p) for n, p in pictures.items()}
    save_file({n: s.contiguous() for n, s in scores.items()}, folder / "scores.safetensors")
    print(net.name, net.preprocessing, net.input_size, net.classes, sep="|")
"""


@pytest.mark.slow
def test_another_process_opens_every_kind_of_network_bit_for_bit(tmp_path: Path) -> None:
    expected, told = {}, []
    for i, (name, make) in enumerate(NETWORKS.items()):
        net, folder = shaken(make()), tmp_path / f"{i:02} {name}"
        net.preprocessing = ww.Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.2,) * 3, source="mine")
        save(net, folder, classes=("a", "b", "c"))
        size = net.input_size or (3, 32, 32)
        pictures = {"bytes": torch.randint(0, 256, (3, *size), dtype=torch.uint8), "floats": torch.randn(2, *size)}
        save_file(pictures, folder / "pictures.safetensors")
        with torch.no_grad():
            expected[folder] = {n: net.module(net.prepared(p) if n == "bytes" else p) for n, p in pictures.items()}
        told.append(f"{net.name}|{net.preprocessing}|{net.input_size}|('a', 'b', 'c')")
    done = subprocess.run(
        [sys.executable, "-c", OTHER_PROCESS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == told
    for folder, scores in expected.items():
        found = load_file(folder / "scores.safetensors")
        assert {n: torch.equal(v, found[n]) for n, v in scores.items()} == dict.fromkeys(scores, True), folder.name


def test_a_trained_network_evaluates_as_before(trained: ww.Network, digits: Data, tmp_path: Path) -> None:
    small = ww.need.collapse(trained, "last 38%")
    again = ww.load_model(ww.save(small, tmp_path / "small"))
    before, after = ww.evaluate(small, digits), ww.evaluate(again, digits)
    assert torch.equal(before.correct, after.correct)
    assert before.loss == after.loss
    assert not (tmp_path / "small" / "config.json").read_text().count('pretrained": true')


def test_what_came_from_a_folder_is_operated_on_and_saved_again(tmp_path: Path) -> None:
    first = ww.load_model(save(ww.hold.with_padding(vgg(), "circular"), tmp_path / "one"))
    second = ww.load_model(save(ww.need.collapse(first, "last 38%"), tmp_path / "two"))
    assert [r["do"] for r in surgeries(second)] == ["hold.with_padding", "need.collapse"]
    again = ww.load_model(save(second, tmp_path / "three"))
    assert surgeries(again) == surgeries(second)
    assert again.base == second.base == vgg().base
    assert again.name == "cifar/vgg11 + padding circular + GAP before features.18"


def test_precision_and_frozen_statistics_come_back(tmp_path: Path) -> None:
    net = vgg()
    net.module.to(torch.bfloat16)
    net.module.features[1].float()
    again = ww.load_model(save(net, tmp_path / "half"))
    kinds = {k: v.dtype for k, v in net.module.state_dict().items()}
    assert {k: v.dtype for k, v in again.module.state_dict().items()} == kinds
    assert len(set(kinds.values())) == 3


def test_the_file_says_all_that_a_reader_needs(tmp_path: Path) -> None:
    folder = save(ww.need.collapse(vgg(), "last 38%"), tmp_path / "small", classes=("a", "b", "c"))
    plain = json.loads((folder / "config.json").read_text())
    assert (plain["format"], plain["schema"], plain["written_by"]) == ("whatwhere network", 1, "ww.save")
    assert plain["base"]["name"] == "cifar/vgg11"
    assert [r["do"] for r in plain["surgery"]] == ["need.collapse"]
    assert plain["preprocessing"]["mean"] == [0.5071, 0.4865, 0.4409]
    assert (plain["input_size"], plain["classes"]) == ([3, 32, 32], ["a", "b", "c"])
    assert {"whatwhere", "torch", "timm"} <= plain["versions"].keys()
    assert sorted(f.name for f in folder.iterdir()) == ["config.json", "weights.safetensors"]
    assert ww.load_model(folder).classes == ("a", "b", "c")


def test_names_of_classes_are_a_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes='cat': give the names of all scores"):
        save(vgg(), tmp_path, classes="cat")


def test_nothing_is_downloaded_for_a_network_whose_first_weights_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = ww.load_model("timm/test_resnet", classes=3)
    assert net.base
    net.base, asked, create = replace(net.base, pretrained=True), [], timm.create_model

    def noted(name: str, **options: Any) -> nn.Module:
        asked.append(options["pretrained"])
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", noted)
    again = ww.load_model(save(net, tmp_path))
    assert asked == [False, False]
    assert again.base == net.base


# ---- what cannot be made again


def test_a_module_of_the_users_is_refused_and_told_what_to_give() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for given, said in (
        (module, "net is a Sequential"),
        (ww.Network(module, name="mine"), "net='mine' was not made by"),
    ):
        assert unsavable(given).startswith(said)
        with pytest.raises(InputError, match=rf"{said}.*load_model\('package\.module:function'\)"):
            save(given, "out")  # type: ignore[arg-type]
    assert not Path("out").exists()


class Gate(nn.Module):
    """A recalibration of the user's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_surgery_with_an_object_is_refused_by_its_name(tmp_path: Path) -> None:
    gated = ww.need.collapse(ww.use.recalibrate(resnet(), Gate), "layers.2.1")
    with pytest.raises(InputError, match=r"its surgery use\.recalibrate was given method=type Gate, which no file can"):
        save(gated, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_were_changed_by_hand_are_refused(tmp_path: Path) -> None:
    other_head, other_activation, hooked = vgg(), vgg(), vgg()
    other_head.module.classifier[-1] = nn.Linear(256, 7)
    other_activation.module.features[2] = nn.GELU()
    hooked.module.features[2].register_forward_hook(lambda _m, _a, output: 2 * output)
    for net, said in (
        (
            other_head,
            r"its weights do not fit: classifier\.\d\.weight is \(7, 256\) among them, and \(3, 256\) in the net",
        ),
        (other_activation, "its weights fit, and yet cifar/vgg11 and its surgery make other layers"),
        (hooked, "and its scores are not. Remove its hooks"),
    ):
        with pytest.raises(InputError, match=f"net='cifar/vgg11' cannot be saved.*{said}"):
            save(net, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = vgg()
    with torch.no_grad():
        net.module.features[0].weight[0] = float("nan")
    with pytest.raises(InputError, match="holds NaN"):
        save(net, tmp_path / "out")


# ---- files


def test_files_of_others_are_not_replaced_unless_told_to(tmp_path: Path) -> None:
    mine = tmp_path / "weights.safetensors"
    mine.write_text("precious")
    with pytest.raises(InputError, match=r"folder='.*': weights\.safetensors is there already.*overwrite=true"):
        save(vgg(), tmp_path)
    assert mine.read_text() == "precious"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["weights.safetensors"]
    save(vgg(), tmp_path, overwrite=True)
    save(vgg(), tmp_path)  # its own
    with pytest.raises(InputError, match=r"weights\.safetensors, config\.json are there already"):
        save(vgg(), tmp_path, by="another command")


def test_a_config_of_another_program_is_not_replaced(tmp_path: Path) -> None:
    for text in ('{"architecture": "resnet18"}', "not JSON", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match=r"config\.json is there already"):
            save(vgg(), tmp_path)
        assert (tmp_path / "config.json").read_text() == text


def test_a_write_that_fails_leaves_the_earlier_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(vgg(), tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for name in ("whatwhere.models.weights.save_file", "whatwhere.files._write"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(InputError, match="No space left on device"):
                save(shaken(vgg()), tmp_path)
        assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_save_that_was_killed_between_its_files_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(vgg(), tmp_path)
    real = os.replace

    def stopped(draft: Any, file: Any) -> None:
        if Path(file).name == "config.json":
            raise KeyboardInterrupt
        real(draft, file)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(shaken(vgg()), tmp_path)
    with pytest.raises(InputError, match=r"weights\.safetensors is not the file that config\.json was written with"):
        ww.load_model(tmp_path)
    monkeypatch.undo()
    save(shaken(vgg()), tmp_path)
    ww.load_model(tmp_path)
