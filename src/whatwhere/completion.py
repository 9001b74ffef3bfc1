"""Completion in a shell: a script with every command, its options, and what they take, written by shtab."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from whatwhere import wings
from whatwhere.arguments import Docs, choices, hints_of, listed_option
from whatwhere.errors import InputError, unknown
from whatwhere.lab.study import loaded

SHELLS = ("bash", "zsh", "tcsh")
PATHS = ("config", "data", "folder", "folders", "model", "out", "weights")  # completed by what is on the disk
# Options whose type is any text: where the names are that most users mean. Others are taken as well.
NAMED = {
    "engine": "whatwhere.lab.resources:ENGINES",
    "kind": "whatwhere.commands:KINDS",
    "recipe": "whatwhere.training.recipes:RECIPES",
    "score": "whatwhere.scores.named:NAMES",
    "shell": "whatwhere.completion:SHELLS",
}


def completion(*shell: str) -> str:
    """Print a script that completes commands, options and what they take, for bash, zsh or tcsh.

    It is of this version of whatwhere: write it again after an update. A new shell reads it.

    Args:
        shell: bash, zsh or tcsh.

    Examples:
        $ whatwhere completion bash > ~/.local/share/bash-completion/completions/whatwhere
        $ whatwhere completion zsh > ~/.zsh/_whatwhere
    """
    if len(shell) != 1:
        raise InputError(f"{len(shell)} shells: give one of {', '.join(SHELLS)}, as in `whatwhere completion bash`.")
    if shell[0] not in SHELLS:
        raise unknown("shell", shell[0], SHELLS)
    import shtab

    written: str = shtab.complete(every_command(), shell[0])
    return written


def every_command() -> ArgumentParser:
    """All commands as one parser, which no command line is parsed by: each command's own is stricter."""
    root = ArgumentParser("whatwhere")
    root.add_argument("--version", action="store_true")
    below = _commands(root, wings.TOP)
    for name, package in wings.wings().items():
        _commands(below.add_parser(name, help=_shown(wings.summary(package))), wings.commands_of(package))
    return root


def _commands(parser: ArgumentParser, commands: Mapping[str, str]) -> Any:
    below = parser.add_subparsers()
    for name, where in commands.items():
        thing = loaded(where)
        docs = Docs.of(thing)
        made = below.add_parser(name, help=_shown(docs.summary))
        for option, hint in {**hints_of(thing), "config": str}.items():
            _option(made, option, f"--{option}", hint, docs.options.get(option, ""))
        if several := listed_option(thing):
            _option(made, several, several, str, docs.options.get(several, ""), nargs="*")
    return below


def _option(parser: ArgumentParser, option: str, typed: str, hint: Any, text: str, **given: Any) -> None:
    added: Any = parser.add_argument(typed, help=_shown(text), choices=_values(option, hint), **given)
    if option in PATHS:
        import shtab

        added.complete = shtab.FILE


def _values(option: str, hint: Any) -> list[str] | None:
    named = loaded(NAMED[option]) if option in NAMED else ()
    return choices(hint) or list(named) or None


def _shown(text: str) -> str:
    """A line of help as argparse takes it, which formats it with %."""
    return text.replace("%", "%%")
