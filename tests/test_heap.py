"""Free memory of the heap goes back to the system."""

import ctypes
import sys
from pathlib import Path

import pytest
import torch

from whatwhere.heap import give_back


def resident():
    """MiB of this process that are no file's."""
    (line,) = [s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("RssAnon")]
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="only glibc gives pages back"
)
def test_what_lies_free_between_tensors_that_are_in_use_goes_back():
    large = torch.ones(24 << 18)  # 24 MiB, of its own; after it is freed, blocks of up to its size lie in the heap
    del large
    held = [torch.full((1 << 17,), 1.0) for _ in range(300)]  # half a MiB each
    del held[::2]
    before = resident()
    give_back()
    assert before - resident() > 50
    assert all(float(x.sum()) == len(x) for x in held)
