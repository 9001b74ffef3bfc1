"""Devices: names that nothing runs on, and devices that this machine has not."""

import subprocess
import sys

import pytest
import torch

from whatwhere.devices import check_device
from whatwhere.errors import InputError


def has(monkeypatch, gpus=0, apple=False):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)


@pytest.mark.parametrize(
    "device", ["tpu", "gpu", "meta", "xpu", "CPU", "", "cpu:1", "cuda:", "cuda:x", "cuda1", "mps:0"]
)
@pytest.mark.parametrize("here", [True, False])
def test_a_name_that_nothing_runs_on_is_refused(device, here):
    with pytest.raises(InputError) as refused:
        check_device(device, here=here)
    assert str(refused.value) == (
        f"device={device!r} cannot be used (known are auto, cpu, cuda and mps); give 'auto' or 'cpu'."
    )


@pytest.mark.parametrize(
    ("device", "gpus", "why"),
    [
        ("mps", 1, "no Apple GPU"),
        ("cuda", 0, "no GPU"),
        ("cuda:0", 0, "no GPU"),
        ("cuda:1", 1, "1 GPU"),
        ("cuda:2", 2, "2 GPUs"),
    ],
)
def test_a_device_that_is_not_there_is_refused_unless_another_machine_may_have_it(device, gpus, why, monkeypatch):
    has(monkeypatch, gpus)
    with pytest.raises(InputError) as refused:
        check_device(device)
    assert str(refused.value) == f"device={device!r} cannot be used (PyTorch finds {why} here); give 'auto' or 'cpu'."
    check_device(device, here=False)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", torch.device("cuda", 1)])
def test_what_is_there_passes(device, monkeypatch):
    has(monkeypatch, gpus=2, apple=True)
    seen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: seen.append(device) or 2)
    check_device(device)
    assert bool(seen) == str(device).startswith("cuda")


def test_a_name_is_checked_without_torch():
    code = "import sys; from whatwhere.devices import check_device; check_device('mps', here=False); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
