"""From studies and functions to options: names, types and help from their signatures and docstrings."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import re
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from whatwhere.errors import InputError, nearest
from whatwhere.lab.study import Run, Study, run_study

WORDS = {int: "a whole number", float: "a number", bool: "true or false"}
SEVERAL = {int: "whole numbers", float: "numbers"}
NO_DEFAULT = (None, False, SUPPRESS)
CONFIG = "--config="


class Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help that keeps the line breaks of descriptions, and says of an option what it takes and its default."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=110)

    def _expand_help(self, action: Action) -> str:
        default = action.default
        shown = ",".join(map(str, default)) if isinstance(default, tuple | list) else default
        known = "" if action.required or any(shown is n for n in NO_DEFAULT) or shown == "" else f" (default: {shown})"
        return f"{(action.help or '').removesuffix('.')}.{known}"


@dataclasses.dataclass(frozen=True)
class Docs:
    """A docstring, taken apart.

    Attributes:
        summary: its first line.
        text: what follows, without the sections.
        options: the text on each attribute or argument.
        examples: commands, a line each.
    """

    summary: str
    text: str
    options: Mapping[str, str]
    examples: tuple[str, ...]

    @staticmethod
    def of(thing: Any) -> Docs:
        """Of a class, with those of the classes that it extends; or of a function."""
        own = _sections(inspect.getdoc(thing) or "")
        bases = [b for b in getattr(thing, "__mro__", (thing,))[::-1] if b.__doc__ and dataclasses.is_dataclass(b)]
        options: dict[str, str] = {}
        for part in [*(_sections(inspect.cleandoc(b.__doc__ or "")) for b in bases), own]:
            options |= _entries(part.get("Attributes", "") or part.get("Args", ""))
        examples = tuple(
            line.strip().removeprefix("$ ") for line in own.get("Examples", "").splitlines() if line.strip()
        )
        summary, _, text = own[""].partition("\n")
        return Docs(summary.strip(), text.strip(), options, examples)


def _sections(doc: str) -> dict[str, str]:
    """The sections of a Google style docstring by name; what comes before them is ""."""
    parts = re.split(r"^(Attributes|Args|Examples|Returns|Raises):\n", doc, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def _entries(section: str) -> dict[str, str]:
    """`name: text` entries, continuation lines joined."""
    found: dict[str, list[str]] = {}
    for line in section.splitlines():
        entry = re.match(r"    (\w+): (.*)", line)
        if entry:
            found[entry[1]] = [entry[2]]
        elif found and line.strip():
            found[list(found)[-1]].append(line.strip())
    return {name: " ".join(lines) for name, lines in found.items()}


def parser_of(name: str, thing: Any) -> ArgumentParser:
    """The parser of one command.

    Args:
        name: as it is typed, such as "whatwhere need curve".
        thing: a study's class, or a function.
    """
    docs = Docs.of(thing)
    examples = "\n".join(f"  {line}" for line in docs.examples)
    text = "\n\n".join(part for part in (docs.summary, docs.text, f"examples:\n{examples}") if part)
    listed = [f"{o.upper()} ..." for o in (listed_option(thing),) if o]
    needed = " ".join([*listed, *(f"--{o} {o.upper()}" for o in _required(thing))])
    usage = f"{name} {needed} [--option value ...]".replace("  ", " ")
    look: Any = {"formatter_class": Help, "exit_on_error": False, "print_config": None}
    parser = ArgumentParser(prog=name, usage=usage, description=text, **look)
    parser._optionals.title = "help"  # argparse has no public way
    if _is_study(thing):
        _add(parser, "what is measured", thing, docs)
        _add(parser, "where and how it runs (no number depends on it)", Run, Docs.of(Run))
        parser.set_defaults(out=thing.usual_out)
    else:
        _add(parser, "options", thing, docs)
    parser.add_argument("--config", help="a YAML file of options, by name; those of the command line are stronger.")
    return parser


def _add(parser: ArgumentParser, title: str, thing: Any, docs: Docs) -> None:
    group = parser.add_argument_group(title)
    if several := listed_option(thing):
        group.add_argument(several, nargs="*", type=str, help=docs.options.get(several, ""))
    for option, hint in options_of(thing).items():
        default = inspect.signature(thing).parameters[option].default
        given = {"required": True} if default is inspect.Parameter.empty else {"default": default}
        group.add_argument(f"--{option}", type=hint, help=docs.options.get(option, ""), **given)


def _required(thing: Any) -> list[str]:
    parameters = inspect.signature(thing).parameters
    return [o for o in options_of(thing) if parameters[o].default is inspect.Parameter.empty]


def options_of(thing: Any) -> dict[str, Any]:
    """The type of every option of a class or function; what takes any object is for Python alone."""
    hints, listed = get_type_hints(thing), listed_option(thing)
    names = [o for o in inspect.signature(thing).parameters if o != listed]
    return {o: hints[o] for o in names if Any not in (hints[o], *get_args(hints[o]))}


def listed_option(thing: Any) -> str:
    """What a function takes any number of (`*folders`), typed without an option before it; "" of most."""
    parameters = inspect.signature(thing).parameters.values()
    return next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), "")


def call(name: str, thing: Any, words: Sequence[str]) -> str | None:
    """Run a command.

    Args:
        name: as it is typed.
        thing: a study's class, or a function.
        words: what follows the name.

    Returns:
        What to print: a study's answer and its page, or what the function returns.

    Raises:
        InputError: naming the option that is wrong.
    """
    values = parsed(name, thing, words)
    if not _is_study(thing):
        shown: str | None = thing(*values.pop(listed_option(thing), ()), **values)
        return shown
    mine = {f.name for f in dataclasses.fields(thing)}
    how = Run(**{k: v for k, v in values.items() if k not in mine})
    study = thing(**{k: v for k, v in values.items() if k in mine})
    result = run_study(study, how)
    page = [] if how.out is None else [f"open {study.planned().page(how)}"]
    return "\n".join([*filter(None, [result.conclusion]), *page])


def parsed(name: str, thing: Any, words: Sequence[str]) -> dict[str, Any]:
    """The value of every option.

    Raises:
        InputError: naming the option that is wrong.
    """
    hints = hints_of(thing)
    prepared = _prepared(words, hints)
    files = [w.removeprefix(CONFIG) for w in prepared if w.startswith(CONFIG)]
    own = [w for w in prepared if not w.startswith(CONFIG)]
    stronger = {w[2:].partition("=")[0] for w in own if w.startswith("--")}
    stored = {o: (word, file) for file in files for o, word in _configured(file, hints).items() if o not in stronger}
    try:
        given = parser_of(name, thing).parse_args([*(word for word, _ in stored.values()), *own])
    except ArgumentError as error:
        raise InputError(_plainly(str(error), name, hints, {o: file for o, (_, file) in stored.items()})) from None
    return {option: getattr(given, option) for option in (*hints, *filter(None, [listed_option(thing)]))}


def _configured(file: str, hints: Mapping[str, Any]) -> dict[str, str]:
    """The options of a file, each as on the command line; no value is read as another type than there.

    Raises:
        InputError: for a file that cannot be read, and for an option that the command does not have.
    """
    try:
        content = yaml.load(Path(file).expanduser().read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"config={file!r} cannot be read ({error}); give a YAML file of options.") from None
    except yaml.YAMLError as error:
        raise InputError(f"config={file!r} is not a YAML file: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise InputError(f"config={file!r} must hold options by name, a line each, such as `workers: 2`.")
    found = {}
    for key, value in content.items():
        option = str(key).replace("-", "_")
        if option not in hints:
            raise _no_option(option, hints, f"config={file!r}: ", "")
        found[option] = f"--{option}={_word(value, hints[option], f'config={file!r}: {option}')}"
    return found


def _word(value: Any, hint: Any, place: str) -> str:
    """A value of a file as the parser takes it.

    Raises:
        InputError: for a list or a mapping where neither can be.
    """
    if value in ("", "~"):
        value = "null"
    several = _takes_several(hint)
    if isinstance(value, str):
        empty = value == "null" and type(None) not in get_args(hint)
        if empty:
            raise InputError(f"{place} has no value; give {expected(hint)}, or leave it out.")
        return _listed(value, hint) if several else value
    if several and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return _as_json(value, hint)
    raise InputError(f"{place}={json.dumps(value)}: give {expected(hint)}.")


def _is_study(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Study)


def hints_of(thing: Any) -> dict[str, Any]:
    """The type of every option of a command."""
    return {**options_of(thing), **(options_of(Run) if _is_study(thing) else {})}


def _prepared(arguments: Sequence[str], hints: Mapping[str, Any]) -> list[str]:
    """Arguments as the parser takes them: `--a-b` as `--a_b`, `a,b` as a list, a lone switch as true.

    Raises:
        InputError: for an option that the command does not have, with the nearest one.
    """
    found: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--help":
            if re.match(r"-[a-zA-Z]", word) and word != "-h":
                raise _no_option(word[1:].partition("=")[0].replace("-", "_"), hints, seen=word)
            found.append(word)
            continue
        option, sign, value = word[2:].partition("=")
        option = option.replace("-", "_")
        if option not in hints and option != "config":
            raise _no_option(option, hints)
        if not sign and (not words or _is_option(words[0])):
            value = "true" if hints.get(option) is bool else ""
        elif not sign:
            value = words.pop(0)
        if not value and not sign:
            raise InputError(f"--{option} has no value; give one after it.")
        found.append(f"--{option}={_listed(value, hints[option]) if _takes_several(hints.get(option)) else value}")
    return found


def _is_option(word: str) -> bool:
    return bool(re.match(r"--[a-zA-Z]", word))


def _no_option(
    option: str, hints: Mapping[str, Any], place: str = "", sign: str = "--", *, seen: str = ""
) -> InputError:
    close = difflib.get_close_matches(option, list(hints), n=1, cutoff=0.5)
    hint = f" Did you mean {sign}{close[0]}?" if close else ""
    every = ", ".join(f"{sign}{o}" for o in hints) or "none"
    return InputError(f"{place}there is no option {seen or sign + option}.{hint} Options: {every}.")


def _takes_several(hint: Any) -> bool:
    return any(get_origin(h) in (tuple, list) for h in (hint, *get_args(hint)))


def _listed(value: str, hint: Any) -> str:
    """`a,b` as a JSON list; what is a list already, or null, stays."""
    if value.startswith("[") or value == "null":
        return value
    return _as_json([v.strip() for v in value.split(",")], hint)


def _as_json(values: Sequence[str], hint: Any) -> str:
    """Values as a JSON list: of names, each as it is written, also where it looks like a number."""
    names = any(get_origin(h) in (tuple, list) and str in get_args(h) for h in (hint, *get_args(hint)))
    return json.dumps([v if names else _plain(v) for v in values])


def _plain(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _plainly(message: str, name: str, hints: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """A parser's error in one line: the option, and its file if it is of one, what was seen, what is expected."""
    required = re.search(r"arguments are required: (.*)", message)
    option = re.search(r'Parser key "(\w+)', message)
    if required:
        text = f"give {' and '.join(f'--{o}' for o in re.findall(r'[a-z_]+', required[1]))}."
    elif option and option[1] in hints:
        seen = re.findall(r"(?:Given value|Got value): ?(.*)", message)
        place = f"config={files[option[1]]!r}: " if option[1] in files else "--"
        hint, value = hints[option[1]], seen[-1] if seen else "?"
        text = f"{place}{option[1]}={value}: give {expected(hint)}.{nearest(value, choices(hint))}"
    else:
        text = " ".join(message.split())
    return f"{text} See {name} --help."


def choices(hint: Any) -> list[str]:
    """The values that an option takes, where its type lists them."""
    parts = (hint, *get_args(hint))
    listed = next((get_args(h) for h in parts if get_origin(h) is Literal), ())
    return list(map(str, listed)) or (["true", "false"] if bool in parts else [])


def expected(hint: Any) -> str:
    """What an option takes, in words."""
    parts = [h for h in get_args(hint) if h is not type(None)]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, parts))
    if get_origin(hint) in (tuple, list):
        count = "" if parts[-1] is Ellipsis else f"{len(parts)} "
        return f"{count}{SEVERAL.get(parts[0], 'names')} with commas"
    if parts:
        return " or ".join(expected(h) for h in parts)
    return WORDS.get(hint, "text")
