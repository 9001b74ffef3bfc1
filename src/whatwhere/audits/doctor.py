"""What this machine and this installation can do, and whether the tool's answers to what is known are right."""

from __future__ import annotations

from collections.abc import Iterator

EXTRAS = {
    "transformers": ("transformers", "hf/ networks"),
    "torchmetrics": ("metrics", "torchmetrics as scores"),
    "onnx": ("export", "ONNX files"),
    "ray": ("ray", "--engine ray"),
    "submitit": ("slurm", "--engine slurm"),
}  # by package: the extra that installs it, and what it is for
FASTER = 1.2  # times float32, from which bfloat16 is worth it
OURS = 0.8  # of the processor's time while it is measured: with less, other work makes rates too low


def doctor(seconds: float = 1.0) -> str:
    """Look at versions, devices, speed and precision, and ask the tool what is known; some 20 seconds.

    Args:
        seconds: to measure each rate of convolutions for.

    Examples:
        $ whatwhere doctor
        $ whatwhere doctor --seconds 5
    """
    from whatwhere.errors import InputError

    if not 0 < seconds < 3600:
        raise InputError(f"seconds={seconds!r}: give a time above 0, such as 1.")
    return "\n".join([*_versions(), *_devices(seconds), *_extras(), *_known()])


def _versions() -> Iterator[str]:
    from whatwhere.lab.provenance import versions

    yield ", ".join(f"{name} {version}" for name, version in versions().items())


def _devices(seconds: float) -> Iterator[str]:
    from whatwhere.lab.provenance import hardware

    here = hardware()
    yield f"processor: {here['cpu']}, {here['cores']} cores, {here['threads']} threads in use"
    yield f"GPUs: {', '.join(here['gpus']) or 'none that PyTorch finds'}"
    for device in ("cpu", *(f"cuda:{i}" for i in range(len(here["gpus"])))):
        plain, half, ours = rates(device, seconds)
        advice = "--precision bf16-mixed pays" if half > FASTER * plain else "leave the precision at 32-true"
        if device != "cpu":
            advice += ", where layers are so large that it does not wait for the next"
        found = f"{plain / 1e9:,.0f} GFLOP/s in {plain_kind(device)}, {half / 1e9:,.0f} in bfloat16"
        yield f"{device}: convolutions at {found}: {advice}"
        if device == "cpu" and ours < OURS:
            yield f"  (other work took {1 - ours:.0%} of the processor meanwhile: neither rate nor advice is sure)"


def rates(device: str, seconds: float) -> tuple[float, float, float]:
    """FLOP/s in float32 and in bfloat16, and the share of the threads' time that this process got meanwhile."""
    import time

    import torch

    used, started = time.process_time(), time.monotonic()
    plain, half = (convolution_rate(device, kind, seconds) for kind in (torch.float32, torch.bfloat16))
    whole = (time.monotonic() - started) * torch.get_num_threads()
    return plain, half, min(1.0, (time.process_time() - used) / whole)


def plain_kind(device: str) -> str:
    """What convolutions of float32 are computed in: a GPU rounds their products to TF32 unless it is told not to."""
    import torch

    tf32 = device.startswith("cuda") and torch.backends.cudnn.allow_tf32
    return "float32 (products in TF32)" if tf32 else "float32"


def convolution_rate(device: str, precision: object, seconds: float) -> float:
    """FLOP/s of a convolution as in VGG-16 on small pictures, forward: the best of as many as fit into some seconds.

    Args:
        device: cpu, cuda or cuda:N.
        precision: a `torch.dtype`.
        seconds: to measure for.
    """
    import time

    import torch

    n, width = (512, 256) if device.startswith("cuda") else (32, 128)
    made = {"device": device, "dtype": precision}
    x = torch.randn(n, width, 16, 16, **made).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    w = torch.randn(width, width, 3, 3, **made).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    best, ends = float("inf"), time.monotonic() + seconds
    with torch.no_grad():
        while best == float("inf") or time.monotonic() < ends:
            wait()
            started = time.perf_counter()
            torch.nn.functional.conv2d(x, w, padding=1)
            wait()
            best = min(best, time.perf_counter() - started)
    return 2.0 * n * 16 * 16 * width * width * 9 / best


def _extras() -> Iterator[str]:
    from importlib import metadata

    for package, (extra, use) in EXTRAS.items():
        try:
            yield f"{package} {metadata.version(package)}: {use}"
        except metadata.PackageNotFoundError:
            yield f"{package} is not installed: {use}; pip install 'whatwhere[{extra}]'"


def _known() -> Iterator[str]:
    from whatwhere.audits.known import known_answers

    found = known_answers()
    for k in found:
        yield f"{'right' if k.right else 'WRONG'}: {k.question}: {k.found} (expected: {k.expected})"
    wrong = sum(not k.right for k in found)
    yield "All answers are right." if not wrong else f"{wrong} of {len(found)} answers are wrong: do not trust results."
