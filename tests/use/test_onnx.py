"""Recalibration leaves for ONNX Runtime and gives the same numbers there."""

import pytest
import torch
from torch import nn

import whatwhere as ww
from whatwhere.recalibration import MSSAR, recalibrate

REASON = "ONNX export needs onnx, onnxscript and onnxruntime: pip install -e '.[dev]'"
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)
pytest.importorskip("onnxscript", reason=REASON)


def through_onnx(module: nn.Module, x: torch.Tensor, file) -> torch.Tensor:
    torch.onnx.export(module, (x,), file, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return torch.from_numpy(out)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (8, 8)),
        ({"weights": "per-cell"}, (7, 6)),
        ({"upsample": "bilinear"}, (8, 8)),
        ({"symmetric": True}, (8, 8)),
    ],
)
def test_a_module_agrees(options, shape, tmp_path):
    torch.manual_seed(0)
    module, x = MSSAR(8, ratio=2, **options).eval(), torch.randn(2, 8, *shape)
    with torch.no_grad():
        torch.testing.assert_close(through_onnx(module, x, tmp_path / "m.onnx"), module(x), atol=1e-5, rtol=1e-4)


def test_a_network_agrees(tmp_path):
    gated = recalibrate(ww.load_model("cifar/bagnet4", classes=10), "ms_sar")
    module, x = gated.module.eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(through_onnx(module, x, tmp_path / "n.onnx"), module(x), atol=1e-4, rtol=1e-3)
