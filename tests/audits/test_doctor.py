"""What the doctor says of this machine: each line by what it rests on."""

from importlib import metadata

import pytest
import torch

from whatwhere.audits import doctor as room
from whatwhere.audits import known
from whatwhere.audits.doctor import convolution_rate, doctor
from whatwhere.audits.known import Known
from whatwhere.errors import InputError


@pytest.fixture
def answers(monkeypatch):
    found = [Known("q", "e", "f", True), Known("p", "e", "f", True)]
    monkeypatch.setattr(known, "known_answers", lambda: found)
    return found


def test_it_looks_at_versions_devices_extras_and_answers(answers):
    lines = doctor(0.01).splitlines()
    assert f"torch {torch.__version__.partition('+')[0]}" in lines[0]
    assert lines[1].startswith("processor: ")
    assert lines[2].startswith("GPUs: ")
    assert f"torchmetrics {metadata.version('torchmetrics')}: torchmetrics as scores" in lines
    assert "right: q: f (expected: e)" in lines
    assert lines[-1] == "All answers are right."


def test_a_wrong_answer_and_a_missing_package_are_said(answers, monkeypatch):
    answers[1] = Known("p", "e", "f", False)
    monkeypatch.setitem(room.EXTRAS, "no-such-package", ("extra", "nothing"))
    text = doctor(0.01)
    assert "WRONG: p: f (expected: e)" in text
    assert text.endswith("1 of 2 answers are wrong: do not trust results.")
    assert "no-such-package is not installed: nothing; pip install 'whatwhere[extra]'" in text


@pytest.mark.parametrize(
    ("half", "said"), [(1.5, "--precision bf16-mixed pays"), (1.1, "leave the precision at 32-true")]
)
def test_the_precision_that_pays_is_named(answers, monkeypatch, half, said):
    monkeypatch.setattr(room, "rates", lambda device, seconds: (1e11, 1e11 * half, 1.0))
    (line,) = [text for text in doctor(0.01).splitlines() if text.startswith("cpu: ")]
    assert line == f"cpu: convolutions at 100 GFLOP/s in float32, {100 * half:.0f} in bfloat16: {said}"


@pytest.mark.parametrize(("ours", "said"), [(0.6, True), (0.9, False)])
def test_other_work_that_makes_rates_too_low_is_said(answers, monkeypatch, ours, said):
    monkeypatch.setattr(room, "rates", lambda device, seconds: (1e11, 1e10, ours))
    assert ("other work took 40% of the processor" in doctor(0.01)) == said


def test_rates_tell_precisions_apart_and_whose_time_it_was(monkeypatch):
    """Of 10 s of each thread, the process got 4 s of each."""
    monkeypatch.setattr(room, "convolution_rate", lambda device, kind, seconds: {torch.float32: 1.0}.get(kind, 2.0))
    monkeypatch.setattr("time.monotonic", iter([0.0, 10.0]).__next__)
    monkeypatch.setattr("time.process_time", iter([0.0, 4.0 * torch.get_num_threads()]).__next__)
    assert room.rates("cpu", 1.0) == (1.0, 2.0, 0.4)


def test_a_rate_is_of_operations_a_second(monkeypatch):
    """Two seconds a convolution, on a clock that is given."""
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    flops = 2 * 32 * 16 * 16 * 128 * 128 * 9
    assert convolution_rate("cpu", torch.float32, 0.001) == flops / 2


def test_no_time_is_refused():
    with pytest.raises(InputError, match="seconds=0"):
        doctor(0)


@pytest.mark.parametrize(
    ("tf32", "device", "said"), [(True, "cuda:0", True), (False, "cuda:0", False), (True, "cpu", False)]
)
def test_products_that_a_gpu_rounds_are_not_called_float32_alone(tf32, device, said, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    assert ("TF32" in room.plain_kind(device)) == said
