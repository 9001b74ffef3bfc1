"""What a network costs: parameters, operations, time, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.network import Network, as_module, running
from whatwhere.site import blank_picture, evaluating, expected_input_size
from whatwhere.site_table import list_sites
from whatwhere.surgery import copied


@dataclass(frozen=True)
class Cost:
    """What one picture costs.

    Attributes:
        parameters: numbers the network learns.
        flops: floating-point operations of its convolutions and linear layers, 2 per multiply-add.
        latency_ms: median milliseconds a picture, measured.
        batch: pictures in a measured forward pass.
        kept_bytes: what a training step keeps of a picture for the backward pass, float32; most of a training's memory.
    """

    parameters: int
    flops: int
    latency_ms: float
    batch: int
    kept_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def cost(
    net: nn.Module | Network, *, input_size: tuple[int, int, int] | None = None, batch: int = 16, seconds: float = 0.5
) -> Cost:
    """Measure a network on this machine, in evaluation mode, channels last.

    Args:
        net: the network.
        input_size: (C, H, W) of one picture; None takes the network's own.
        batch: pictures in a forward pass.
        seconds: least time to measure for.

    Raises:
        InputError: for a batch below 1 or a negative time; if the network does not run on such pictures.
    """
    if batch < 1 or not seconds >= 0:
        raise InputError(f"batch={batch}, seconds={seconds}: give at least one picture, and a time of 0 or more.")
    module = as_module(net)
    size = input_size or expected_input_size(net)
    blank = blank_picture(module, size)
    pictures, two = (blank.expand(n, *size).contiguous(memory_format=torch.channels_last) for n in (batch, 2))

    def run() -> None:
        module(pictures)
        if pictures.is_cuda:
            torch.cuda.synchronize(pictures.device)  # a call returns before the GPU is done

    with evaluating(module), running(module, size):
        median = _median_seconds(run, seconds)
    parameters = sum(p.numel() for p in module.parameters())
    flops = list_sites(net, input_size=size).total_flops
    return Cost(parameters, flops, 1000 * median / batch, batch, kept_bytes(module, two))


def kept_bytes(module: nn.Module, pictures: Tensor) -> int:
    """What a training step keeps for the backward pass, per picture: the storages of all saved tensors, each once.

    Args:
        module: the network; a copy runs.
        pictures: (N, C, H, W), at least 2, for batch norm.
    """
    training = copied(module).train()
    own = {t.untyped_storage().data_ptr() for t in (*training.parameters(), *training.buffers())}
    saved: list[Tensor] = []  # held, so that no storage is used again

    def keep(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with torch.random.fork_rng(), torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = training(pictures)  # dropout draws
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in saved}
    del output
    return sum(size for at, size in storages.items() if at not in own) // len(pictures)


def _median_seconds(run: Callable[[], object], least: float) -> float:
    """The median of as many runs as fit into a time, at least five, after one to warm up."""
    run()
    times: list[float] = []
    while sum(times) < least or len(times) < 5:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)
