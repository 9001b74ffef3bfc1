"""Files for other programs: they give the network's scores for any number of pictures, or are not written."""

import builtins
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import whatwhere as ww
from small_choice import on_demand
from whatwhere.errors import InputError
from whatwhere.models import exported
from whatwhere.models.exported import SUFFIX, check_names, export

pytest.importorskip("onnxscript", reason="pip install 'whatwhere[export]'")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
VGG: dict[str, Any] = {"classes": 3, "width": 1 / 16}
Run = Callable[[Tensor], Tensor]


def by_onnxruntime(file: Path) -> Run:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["pictures"]
    assert [o.name for o in session.get_outputs()] == ["scores"]
    return lambda x: torch.from_numpy(session.run(None, {"pictures": x.numpy()})[0])


RUN: dict[Any, Callable[[Path], Run]] = {
    "onnx": by_onnxruntime,
    "torch-export": lambda file: torch.export.load(str(file)).module(),
}


def vgg() -> ww.Network:
    return ww.load_model("cifar/vgg11", seed=1, **VGG)


def resnet() -> ww.Network:
    return ww.load_model("cifar/resnet20", classes=3, width=0.25)


class Named(nn.Module):
    """A segmentation network with several outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"aux": self.conv(x) * 2, "out": self.conv(x)}


SMALL = {
    "plain": vgg,
    "collapsed": lambda: ww.need.collapse(vgg(), "last 38%"),
    "pointwise": lambda: ww.need.pointwise(vgg(), "last 38%", local="average"),
    "truncated": lambda: ww.need.truncate(resnet(), "layers.2.0", classes=7),
    "recalibrated": lambda: ww.use.recalibrate(ww.need.collapse(resnet(), "layers.1.0"), "ms_sar", sites="layers.0.0"),
    "padded": lambda: ww.hold.with_padding(vgg(), "circular"),
    "several outputs": lambda: ww.Network(Named(), input_size=(3, 16, 16)),
}
LARGE = {
    "timm/resnet18": lambda: ww.load_model("timm/resnet18"),
    "collapsed": lambda: ww.need.collapse(ww.load_model("timm/resnet18"), "layer4.0"),
    "recalibrated": lambda: ww.use.recalibrate(ww.load_model("timm/resnet18"), "ms_sar", sites="layer4*"),
    "timm/tf_efficientnet_lite0": lambda: ww.load_model("timm/tf_efficientnet_lite0"),
    "timm/vit_tiny_patch16_224": lambda: ww.load_model("timm/vit_tiny_patch16_224"),
}


def check(net: ww.Network, format: Any, folder: Path) -> None:
    file = folder / f"net{SUFFIX[format]}"
    before = {k: v.clone() for k, v in net.module.state_dict().items()}
    done = export(net, file, format=format)
    assert done.difference <= 1e-4
    assert f"wrote {file}, checked with" in str(done)
    run = RUN[format](file)
    for count in (1, 2, 5):
        x = torch.randn(count, *(net.input_size or ()))
        with torch.no_grad():
            expected = net.module(x)
        expected = expected["out"] if isinstance(expected, dict) else expected
        torch.testing.assert_close(run(x), expected, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in net.module.state_dict().items())


@pytest.mark.parametrize(
    ("name", "format"), [*((name, "onnx") for name in SMALL), ("collapsed", "torch-export"), ("padded", "torch-export")]
)
def test_a_file_gives_the_networks_scores_for_any_number_of_pictures(name: str, format: str, tmp_path: Path) -> None:
    check(SMALL[name](), format, tmp_path)


@on_demand
@pytest.mark.parametrize("format", SUFFIX)
@pytest.mark.parametrize("name", LARGE)
def test_files_of_large_networks(name: str, format: str, tmp_path: Path) -> None:
    check(LARGE[name](), format, tmp_path)


def test_a_file_says_what_it_takes(tmp_path: Path) -> None:
    small = ww.need.collapse(vgg(), "last 38%")
    print(export(small, tmp_path / "small.onnx"))
    (entry,) = onnx.load(tmp_path / "small.onnx").metadata_props
    export(small, tmp_path / "small.pt2", format="torch-export")
    extra = {"whatwhere.json": ""}
    torch.export.load(str(tmp_path / "small.pt2"), extra_files=extra)
    for text in (entry.value, extra["whatwhere.json"]):
        about = json.loads(text)
        assert about["preprocessing"] == json.loads(json.dumps(small.preprocessing.to_dict()))
        assert about["input_size"] == [3, 32, 32]
        assert [r["do"] for r in about["surgery"]] == ["need.collapse"]


def test_half_precision_and_a_plain_module_are_exported_in_single(tmp_path: Path) -> None:
    net = vgg()
    net.module.half()
    assert export(net.module, tmp_path / "half.pt2", format="torch-export", input_size=(3, 32, 32)).difference == 0
    assert next(net.module.parameters()).dtype == torch.float16


# ---- refusals


@pytest.mark.slow
def test_a_file_that_gives_other_scores_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    under = exported._under_torch
    for change in (lambda y: y + 2e-4 * y.abs().max(), lambda y: y * float("nan"), lambda y: y[:1]):
        monkeypatch.setattr(
            exported, "_under_torch", lambda c, change=change: ("PyTorch", lambda x: change(under(c)[1](x)))
        )
        with pytest.raises(InputError, match=r"net\.pt2' is not written: with PyTorch its scores differ by"):
            export(vgg(), tmp_path / "net.pt2", format="torch-export")
    monkeypatch.setattr(exported, "_under_torch", lambda c: ("PyTorch", lambda x: under(c)[1](x) * (1 + 5e-5)))
    export(vgg(), tmp_path / "near.pt2", format="torch-export")
    assert [f.name for f in tmp_path.iterdir()] == ["near.pt2"]


def test_a_network_that_is_random_is_not_written(tmp_path: Path) -> None:
    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) + torch.rand(x.shape[0], 3)

    with pytest.raises(InputError, match="unless the network is random in evaluation mode"):
        export(ww.Network(Noise(), input_size=(3, 8, 8)), tmp_path / "net.pt2", format="torch-export")


def test_a_network_that_cannot_be_exported_is_named(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))

    class OneByOne(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([picture.mean((1, 2)) for picture in x])

    for module in (Branching(), OneByOne()):
        for format, suffix in SUFFIX.items():
            said = rf"PyTorch cannot export this {type(module).__name__} \("
            with pytest.raises(InputError, match=said):
                export(ww.Network(module, input_size=(3, 8, 8)), tmp_path / f"net{suffix}", format=format)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"the network does not run on a picture of shape \(3, 8, 8\)"):
        export(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), tmp_path / "net.onnx", input_size=(3, 8, 8))
    with pytest.raises(InputError, match="input_size="):
        export(vgg(), tmp_path / "net.onnx", input_size=(3, 0, 8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "format", "said"),
    [
        ("net", "onnx", r"out='net' is not the name of a \.onnx file, as format='onnx' has; give 'net\.onnx'"),
        ("net.pt", "torch-export", r"give 'net\.pt2'"),
        ("net.onnx", "torch-export", r"give 'net\.pt2'"),
        ("net.onnx", "tflite", "format='tflite' matches nothing.*onnx, torch-export"),
    ],
)
def test_names_that_do_not_go_with_the_format(out: str, format: Any, said: str) -> None:
    for refuse in (lambda: check_names(out, format), lambda: export(vgg(), out, format=format)):
        with pytest.raises(InputError, match=said):
            refuse()


@pytest.mark.slow
def test_files_of_others_are_not_replaced_unless_told_to(tmp_path: Path) -> None:
    for format, suffix in SUFFIX.items():
        file = tmp_path / f"net{suffix}"
        file.write_text("precious")
        with pytest.raises(InputError, match=r"the file is there already.*overwrite=true"):
            export(vgg(), file, format=format)  # type: ignore[arg-type]
        assert file.read_text() == "precious"
        export(vgg(), file, format=format, overwrite=True)  # type: ignore[arg-type]
        export(vgg(), file, format=format)  # type: ignore[arg-type]  # its own


def test_packages_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = export(vgg(), tmp_path / "net.onnx")
    assert "not checked, since onnxruntime is not installed: pip install 'whatwhere[export]'." in str(done)
    monkeypatch.undo()
    torch.testing.assert_close(
        by_onnxruntime(tmp_path / "net.onnx")(torch.ones(2, 3, 32, 32)), vgg().module(torch.ones(2, 3, 32, 32))
    )
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError(name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"format='onnx' needs onnxscript: pip install 'whatwhere\[export\]'; or give"):
        export(vgg(), tmp_path / "other.onnx")
