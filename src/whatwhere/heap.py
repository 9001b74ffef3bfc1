"""The C library's heap, and what lies free in it."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give the free pages of the heap back to the system.

    Tensors of less than some 32 MiB lie in the heap, and what they leave stays with the process wherever anything
    behind it is still in use: after some passes of a network hundreds of MiB, which nothing larger can use. Called
    before something large is made, it takes milliseconds. Only glibc can; elsewhere nothing is done.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
