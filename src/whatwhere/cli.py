"""The command `whatwhere`: what is typed, to the study or function that wings.py names. No other logic."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from whatwhere import wings
from whatwhere.errors import InputError, TrainingDiverged, unknown
from whatwhere.lab.study import loaded

EXAMPLES = """examples:
  whatwhere need curve --model timm/resnet18 --pretrained true --data FOLDER --out curve
  whatwhere sites --model timm/resnet18"""
PIPE_CLOSED = 141  # as a shell sees a program that was ended by SIGPIPE
STOPPED = "stopped. What was finished is kept; the same command goes on from there."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a mistake is reported in one line, and an interruption says how to resume."""
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
    except (InputError, TrainingDiverged) as error:
        print(f"whatwhere: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\nwhatwhere: {STOPPED}", file=sys.stderr)
        sys.exit(130)


def _say(text: str) -> None:
    """Print at once: that a pipe is closed, since `head` has read enough, is seen here and not when Python ends."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to write goes nowhere
        sys.exit(PIPE_CLOSED)


def _run(words: list[str]) -> None:
    first, rest = (words[0], words[1:]) if words else ("--help", [])
    if first in ("--help", "-h"):
        _say(_overview())
    elif first == "--version":
        from whatwhere import __version__

        _say(f"whatwhere {__version__}")
    elif first in wings.TOP:
        _command(f"whatwhere {first}", wings.TOP[first], rest)
    elif first in wings.wings():
        _wing(first, wings.wings()[first], rest)
    else:
        instead = {**_elsewhere(""), **{flag: [flag] for flag in ("--help", "--version")}}
        raise unknown("command", first, [*wings.wings(), *wings.TOP], instead=instead)


def _wing(name: str, package: str, words: list[str]) -> None:
    there = wings.commands_of(package)
    first, rest = (words[0], words[1:]) if words else ("--help", [])
    if first in ("--help", "-h"):
        _say(_of_wing(name, package))
    elif first in there:
        _command(f"whatwhere {name} {first}", there[first], rest)
    else:
        raise unknown(
            f"command whatwhere {name}", first, list(there), instead={"--help": ["--help"], **_elsewhere(name)}
        )


def _elsewhere(wing: str) -> dict[str, list[str]]:
    """What to type for commands that are not of a wing, by their own names; with no wing, by both words as well."""
    found = {name: [f"whatwhere {name}"] for name in wings.TOP if wing}
    others = {n: wings.commands_of(package) for n, package in wings.wings().items() if n != wing}
    for whole, name in ((f"{other} {name}", name) for other, commands in others.items() for name in commands):
        found.setdefault(name, []).append(f"whatwhere {whole}" if wing else whole)
        if not wing:
            found[whole] = [whole]
    return found


def _command(name: str, where: str, words: list[str]) -> None:
    from whatwhere.arguments import call

    shown = call(name, loaded(where), words)
    if shown is not None:
        _say(shown)


def _overview() -> str:
    lines = ['How much "where" is in your "what"?', "", "usage: whatwhere WING COMMAND [--option value ...]", ""]
    for name, package in wings.wings().items():
        lines.append(f"  {name:10}{wings.summary(package)}")
        lines.append(f"  {'':10}  {' | '.join(wings.commands_of(package))}")
    lines += ["", *_listed(wings.TOP), "", "whatwhere WING COMMAND --help explains one.", "", EXAMPLES]
    return "\n".join(lines)


def _of_wing(name: str, package: str) -> str:
    there = wings.commands_of(package)
    usage = f"usage: whatwhere {name} COMMAND [--option value ...]"
    return "\n".join([wings.summary(package), "", usage, "", *_listed(there), "", *_examples(there)])


def _listed(commands: Mapping[str, str]) -> list[str]:
    from whatwhere.arguments import Docs

    return [f"  {name:12}{Docs.of(loaded(where)).summary}" for name, where in commands.items()]


def _examples(commands: Mapping[str, str]) -> list[str]:
    """The first example of the first two commands."""
    from whatwhere.arguments import Docs

    found = [Docs.of(loaded(where)).examples[:1] for where in commands.values()]
    return ["examples:", *(f"  {line}" for each in found[:2] for line in each)]
