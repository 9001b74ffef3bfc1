"""Processes that train one network together, each on its share of every batch: Lightning Fabric's DDP."""

from __future__ import annotations

import copy
import os
import pickle
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, TrainingDiverged

T = TypeVar("T")

HOST = "127.0.0.1"
START = "spawn"  # a fork of a process that ran on a GPU, or with threads, may hang
PATIENCE = 10  # seconds for a process that failed to say why
_groups: dict[Any, Any] = {}


def launched() -> bool:
    """Whether this process is one of several, started by torchrun or by `together`."""
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"} <= set(os.environ)


def rank() -> int:
    """The number of this process; 0 leads: it alone writes, tests and reports."""
    return int(os.environ["RANK"]) if launched() else 0


def size() -> int:
    """How many processes train together."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def layout() -> dict[str, Any]:
    """What Fabric needs to know of the processes."""
    if size() == 1:
        return {}
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    here = int(os.environ.get("LOCAL_WORLD_SIZE", size()))
    nodes, plugins = size() // here, [TorchElasticEnvironment()]
    return {"devices": here, "num_nodes": nodes, "strategy": "ddp", "plugins": plugins}


def from_first(fabric: Any, look: Callable[[], T]) -> T:
    """What the first process finds, in all of them; the others wait for a day if need be."""
    if size() == 1:
        return look()
    waiting = _waiting()
    found = [look() if rank() == 0 else None]
    torch.distributed.broadcast_object_list(found, 0, group=waiting)
    return found[0]  # type: ignore[return-value]


def _waiting() -> Any:
    """A group of all processes for waiting, made once.

    A step that hangs is to end after PyTorch's usual time (minutes), but a test may take longer than that.
    """
    world = torch.distributed.group.WORLD
    if world not in _groups:
        _groups[world] = torch.distributed.new_group(timeout=timedelta(days=1))
    return _groups[world]


def check_same(fabric: Any, value: Any, what: str) -> None:
    """Refuse a value that differs from the first process's.

    Raises:
        InputError: naming it, and both.
    """
    first = from_first(fabric, lambda: value)
    if value != first:
        raise InputError(
            f"{what}: {value} for process {rank()}, {first} for the first; give a folder that all machines see."
        )


def mean(fabric: Any, values: Tensor) -> Tensor:
    """The mean over processes, in all of them."""
    return values if size() == 1 else fabric.all_reduce(values, reduce_op="mean")


def same_buffers(fabric: Any, module: nn.Module) -> None:
    """Set running statistics to those of the first process."""
    for buffer in module.buffers() if size() > 1 else ():
        buffer.copy_(fabric.broadcast(buffer))


@contextmanager
def together(devices: int, function: Callable[..., Any], net: Any, sent: Mapping[str, Any]) -> Iterator[None]:
    """Make this process the first of several on this machine, which call a function at the same time.

    Args:
        devices: processes, this one included.
        function: what the others call: with a copy of `net`, and with `sent` by name.
        net: the network; the others get a copy.
        sent: further arguments.

    Raises:
        InputError: if something cannot be sent to another process; or what another process raised.
        TrainingDiverged: what another process raised.
    """
    from lightning_fabric.plugins.environments.lightning import find_free_network_port

    port = find_free_network_port()
    context: Any = torch.multiprocessing.get_context(START)
    failed = context.SimpleQueue()
    _check_unhooked(net, devices)
    others = [
        context.Process(target=_called, args=(function, net, dict(sent), _environment(r, devices, port), failed))
        for r in range(1, devices)
    ]
    try:
        try:
            for process in others:
                process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise _unsendable(devices, error) from error
        with _environ(_environment(0, devices, port)):
            try:
                yield
            finally:
                if torch.distributed.is_initialized():
                    torch.distributed.destroy_process_group()
                _groups.clear()  # freed now, not in a process that is forked later and lacks their threads
        for process in others:
            process.join()
    except Exception as error:
        raise _cause(error, others, failed) from None
    finally:
        for process in others:
            if process.is_alive():
                process.kill()


def _check_unhooked(net: Any, devices: int) -> None:
    """An intervention's hooks would not be there in other processes."""
    hooked = next((n for n, m in net.module.named_modules() if m._forward_hooks or m._forward_pre_hooks), None)
    if hooked is not None:
        raise _unsendable(devices, f"hooks on {hooked or 'the network'}")


def _unsendable(devices: int, why: object) -> InputError:
    return InputError(
        f"devices={devices}: the training cannot be sent to other processes ({textwrap.shorten(str(why), 200)}), as "
        "one within an intervention cannot be; start your script with torchrun instead, which runs it in each of them."
    )


def _environment(number: int, devices: int, port: int) -> dict[str, str]:
    """As torchrun sets it."""
    return {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(devices),
        "LOCAL_WORLD_SIZE": str(devices),
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
    }


@contextmanager
def _environ(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _called(
    function: Callable[..., Any], net: Any, sent: dict[str, Any], environment: Mapping[str, str], failed: Any
) -> None:
    """In another process: the same call as in the first."""
    os.environ.update(environment)
    try:
        function(copy.deepcopy(net), **sent)  # what is sent shares the memory of the first process's weights
    except (InputError, TrainingDiverged) as error:
        failed.put((type(error).__name__, str(error)))
        raise SystemExit(1) from None


def _cause(error: Exception, others: list[Any], failed: Any) -> Exception:
    """What went wrong first: an error here may only say that another process is gone."""
    if isinstance(error, InputError | TrainingDiverged) and not isinstance(error.__cause__, RuntimeError):
        return error
    for process in others:
        process.join(PATIENCE)
        if process.exitcode and not failed.empty():
            name, text = failed.get()
            return (TrainingDiverged if name == "TrainingDiverged" else InputError)(text)
    return error
