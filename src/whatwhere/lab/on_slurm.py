"""Cells as jobs of SLURM, or as jobs of this machine that go the same way: submitit's executors."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whatwhere.devices import usable_cores
from whatwhere.errors import InputError
from whatwhere.lab.resources import DEBUG, LOCAL, SLURM, Resources
from whatwhere.lab.there import VISIBLE, Call

JOBS = "jobs"  # in the study's folder: what is sent, what comes back, and logs; gone at the end if all went well
CLUSTERS = {SLURM: "slurm", LOCAL: "local", DEBUG: "debug"}
HOURS = 4.0  # of a job; then it goes on in another one
REQUEUED = 100  # times at most that a job goes on after its hours
RETRIES = 3  # times that a cell is sent again whose job was killed
EVERY = 1.0  # seconds between two looks at a job: each reads the folder


@dataclass(frozen=True)
class Job(Call):
    """A call that goes on in another job when its hours are over, or another's turn has come."""

    def checkpoint(self, configuration: Mapping[str, Any]) -> Any:
        """What submitit queues then: the same, since a cell resumes from its own checkpoint."""
        from submitit.helpers import DelayedSubmission

        # SLURM ends a job that is queued again with SIGTERM, the command in it that submitit queues it again by
        # included, which would count as a failure of the cell; ignored signals are inherited.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return DelayedSubmission(self, configuration)


class OnSlurm:
    """Jobs of submitit, as an engine.

    Args:
        name: slurm, submitit-local or submitit-debug.
        resources: for each cell.
        folder: of the study, which the nodes see as well.

    Raises:
        InputError: without submitit or SLURM, or for an option of sbatch that submitit does not take.
    """

    def __init__(self, name: str, resources: Resources, folder: Path) -> None:
        self._threads, self._sent = resources.cpus_per_cell or (None if name == DEBUG else 1), list[Sent]()
        self._folder = folder.absolute() / JOBS / f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}"
        self._here = name == LOCAL  # where nobody queues, or hands out GPUs
        self._each = round(resources.gpus_per_cell or 0) if self._here else 0
        self._gpus = _gpus_here(self._each)
        self._executor = _executor(name, self._folder)
        self._executor.update_parameters(**parameters(resources))

    def submit(self, function: Callable[[Mapping[str, Any]], Any], configuration: Mapping[str, Any], /) -> Sent:
        """Call the function in a job.

        Raises:
            InputError: if sbatch refuses it.
        """

        def submitted(gpus: tuple[str, ...]) -> Any:
            job = Job(function, os.getcwd(), self._threads, gpus if self._each else None)
            return _submitted(self._executor, job, configuration)

        sent = Sent(submitted, self._room)
        self._sent.append(sent)
        return sent

    def _room(self) -> tuple[str, ...] | None:
        """The GPUs that another job gets, where this machine hands them out; None while it has no room for a job."""
        if not self._here:
            return ()
        there = [sent for sent in self._sent if sent.queued]
        free = [gpu for gpu in self._gpus if not any(gpu in sent.gpus for sent in there)]
        room = (len(there) + 1) * (self._threads or 1) <= usable_cores() or not there
        return tuple(free[: self._each]) if room and len(free) >= self._each else None

    def __enter__(self) -> OnSlurm:
        """Nothing is queued before the first cell."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: Any) -> None:
        """After an error, what is queued or runs is cancelled, and the logs stay."""
        if error is not None:
            for sent in self._sent:
                sent.cancel()
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):  # another command's are there
            self._folder.parent.rmdir()


class Sent:
    """A cell on its way.

    Args:
        submit: queues its job, with the GPUs it gets; asked again where a job was killed.
        room: these GPUs, or None while no job may be queued.
    """

    def __init__(self, submit: Callable[[tuple[str, ...]], Any], room: Callable[[], tuple[str, ...] | None]) -> None:
        self._submit, self._room, self._left = submit, room, RETRIES
        self.gpus: tuple[str, ...] = ()
        self._job: Any = None
        self._looked, self._over = 0.0, False
        self._begin()

    def _begin(self) -> None:
        if (gpus := self._room()) is not None:
            self.gpus, self._job = gpus, self._submit(gpus)

    @property
    def queued(self) -> bool:
        """Whether it has a job that has not ended, as far as it was looked at."""
        return self._job is not None and not self._over

    def done(self) -> bool:
        """Whether its job has ended, and is not to be sent again."""
        if self._job is None:
            self._begin()
        if self._job is None or time.monotonic() - self._looked < EVERY:
            return False
        self._looked = time.monotonic()
        self._over = bool(self._job.done()) and not self._sent_again()
        return self._over

    def _sent_again(self) -> bool:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        error = self._job.exception()
        killed = isinstance(error, UncompletedJobError) and not isinstance(error, FailedJobError)
        if not killed or not self._left:
            return False
        self._left -= 1
        self._job = self._submit(self.gpus)
        return True

    def result(self) -> Any:
        """What the function returned; raises what became of its last job otherwise."""
        while not self.done():
            time.sleep(EVERY)
        return self._job.result()

    def cancel(self) -> None:
        """End its job."""
        if self._job is not None:
            self._job.cancel(check=False)


def _gpus_here(each: int) -> tuple[str, ...]:
    """GPUs of this machine by number, where each cell gets some.

    Raises:
        InputError: if there are fewer than a cell asks for.
    """
    if not each:
        return ()
    import torch

    count = torch.cuda.device_count()
    if count < each:
        raise InputError(f"gpus_per_cell={each}: this machine has {count} GPUs that PyTorch finds; give fewer.")
    given = os.environ.get(VISIBLE)
    return tuple(given.split(",")[:count]) if given else tuple(map(str, range(count)))


def parameters(resources: Resources) -> dict[str, Any]:
    """What submitit calls them.

    Args:
        resources: for each cell.
    """
    shared = {
        "name": "whatwhere",
        "timeout_min": max(1, round(60 * (resources.hours or HOURS))),
        "cpus_per_task": resources.cpus_per_cell,
        "gpus_per_node": None if resources.gpus_per_cell is None else round(resources.gpus_per_cell),
        "mem_gb": resources.memory_per_cell,
    }
    own = {"slurm_partition": resources.partition, "slurm_additional_parameters": dict(resources.options) or None}
    return {name: value for name, value in {**shared, **own}.items() if value is not None}


def _executor(name: str, folder: Path) -> Any:
    try:
        import submitit
    except ImportError:
        raise InputError(f"engine={name!r} needs the package submitit: pip install 'whatwhere[slurm]'.") from None
    try:
        return submitit.AutoExecutor(folder, cluster=CLUSTERS[name], slurm_max_num_timeout=REQUEUED)
    except RuntimeError as error:
        raise InputError(
            f"engine={name!r}: SLURM is not here (no srun). Give the command where sbatch works; engine={LOCAL!r} runs "
            "the same jobs on this machine."
        ) from error


def _submitted(executor: Any, job: Job, configuration: Mapping[str, Any]) -> Any:
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        return executor.submit(job, dict(configuration))
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        why = " ".join(str(error).split())[-300:]
        raise InputError(f"engine='slurm': sbatch refused the job ({why}); see partition, hours and slurm.") from error
