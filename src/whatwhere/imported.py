"""What a user wrote, by import path: `package.module:name`, which every process can load for itself."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from whatwhere.errors import InputError, unknown


def is_import_path(name: str) -> bool:
    """Whether a name is an import path, `package.module:name`; other names have a slash before, or no colon."""
    return ":" in name and "/" not in name.partition(":")[0]


def module_at(option: str, name: str) -> Any:
    """The module of an import path; the current directory is searched first, as by `python -m`.

    Args:
        option: that the path was given as, for errors.
        name: the path.

    Raises:
        InputError: for a file, a module that is not there, or one that cannot be imported.
    """
    where, here = name.partition(":")[0], os.getcwd()
    if not all(part.isidentifier() for part in where.split(".")) or where.endswith(".py"):
        meant = where.removesuffix(".py").replace(os.sep, ".")
        raise InputError(f"{option}={name!r}: give an import path such as {meant}:function, not a file.")
    if "" not in sys.path and here not in sys.path:
        sys.path.insert(0, here)  # as python -m does; what the module imports later is found, too
    importlib.invalidate_caches()
    try:
        return importlib.import_module(where)
    except Exception as error:  # a foreign module may raise anything
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{where}.".startswith(f"{missing}."):
            raise InputError(
                f"{option}={name!r}: there is no module {missing!r} in {here} or on Python's path; run the command in "
                "the directory that holds it, or add that to PYTHONPATH."
            ) from error
        raise InputError(f"{option}={name!r}: importing {where} fails with {short(error)}.") from error


def attribute_at(option: str, name: str, module: Any) -> Any:
    """What an import path names in its module.

    Raises:
        InputError: if there is no such name; the message lists those that there are.
    """
    where, _, path = name.partition(":")
    found = module
    for part in path.split("."):
        if not part or not hasattr(found, part):
            known = [f"{where}:{n}" for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            raise unknown(option, name, known)
        found = getattr(found, part)
    return found


def short(error: Exception) -> str:
    """An error of foreign code in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
