"""What happens around a cell on another machine: the same folder, its share of the cores."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from whatwhere.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Call:
    """A function that is called on another machine.

    Attributes:
        function: of the configuration.
        folder: where the command was given, which relative paths are relative to.
        threads: that torch may use; None is what it finds.
        gpus: that it sees; None is what it finds.
    """

    function: Callable[[Mapping[str, Any]], Any]
    folder: str
    threads: int | None = None
    gpus: tuple[str, ...] | None = None

    def __call__(self, configuration: Mapping[str, Any]) -> Any:
        """Call it there.

        Raises:
            InputError: if the folder is not there.
        """
        import torch

        try:
            os.chdir(self.folder)
        except OSError as error:
            raise InputError(
                f"{self.folder} is not on {socket.gethostname()} ({error.strerror}): give the command in a folder that "
                "all nodes share."
            ) from error
        if self.threads:
            torch.set_num_threads(self.threads)
        if self.gpus is not None:  # before CUDA is first used, which reads it then
            os.environ[VISIBLE] = ",".join(self.gpus)
        return self.function(configuration)


def there(call: Call, configuration: Mapping[str, Any]) -> Any:
    """A call, as a function with a name that other machines know."""
    return call(configuration)
