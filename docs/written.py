"""What the site's pages hold that is written during the build: commands, names, the gallery. Needs no Sphinx.

A page says where by a line of its own, such as `<!-- written: commands -->`.
"""

import gzip
import json
import re
from argparse import SUPPRESS, Action
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from whatwhere import wings
from whatwhere.arguments import Docs, expected, parser_of
from whatwhere.audits.comparison import Comparison
from whatwhere.audits.result import AuditResult
from whatwhere.lab.study import Run, loaded
from whatwhere.report.page import as_html

GALLERY, RESULT = Path(__file__).parent / "gallery", "result.json.gz"
MARK = re.compile(r"^<!-- written: (\w+)(?: (\S+))? -->$", flags=re.M)


def page(name: str, text: str) -> str:
    """The Markdown of a page, with what is written during the build in its places.

    Args:
        name: of the page, as Sphinx has it.
        text: of its file.
    """
    return MARK.sub(lambda mark: WRITERS[mark[1]](mark[2] or ""), text)


def commands(wing: str) -> str:
    """Every command of a wing, of its parser; of those that belong to none if no wing is given."""
    there = wings.commands_of(wings.wings()[wing]) if wing else wings.TOP
    before = f"whatwhere {wing}".strip()
    return "\n\n".join(_command(f"{before} {name}", loaded(where)) for name, where in there.items())


def _command(name: str, thing: Any) -> str:
    docs = Docs.of(thing)
    parts = [f"### {name}", escaped(docs.summary), *_paragraphs(docs.text)]
    if docs.examples:
        parts.append("\n".join(["```sh", *docs.examples, "```"]))
    parts += _options(name, thing, get_type_hints(thing))
    if isinstance(thing, type):
        parts.append(
            f"And [where and how it runs](#where-and-how-it-runs); `--out` is `{thing.usual_out}` if not given."
        )
    return "\n\n".join(parts)


def running(_: str) -> str:
    """The options that every study has."""
    return "\n\n".join(_options("", Run, get_type_hints(Run)))


def _options(name: str, thing: Any, hints: Mapping[str, Any]) -> list[str]:
    groups = parser_of(name, thing)._action_groups  # argparse has no public way
    return [_option(a, hints[a.dest]) for group in groups for a in group._group_actions if a.dest in hints]


def _paragraphs(text: str) -> list[str]:
    """Prose escaped; what is indented or a list keeps its lines."""
    found = []
    for part in text.split("\n\n"):
        lines = part.splitlines()
        drawn = any(line.startswith((" ", "* ", "- ")) for line in lines)
        found.append("\n".join(["```text", *lines, "```"]) if drawn else escaped(" ".join(lines)))
    return [part for part in found if part]


def _option(action: Action, hint: Any) -> str:
    default = action.default
    listed = ",".join(map(str, default)) if isinstance(default, tuple | list) else default
    silent = action.required or default in (None, False, SUPPRESS) or listed == ""
    ending = " Required." if action.required else "" if silent else f" Default: `{listed}`."
    text = (action.help or "").removesuffix(".")
    return f"`--{action.dest}` {escaped(expected(hint))}\n: {escaped(text)}.{ending}"


def names(package: str) -> str:
    """A package's public names, functions first, each from its docstring; what is a package itself is left out."""
    face = import_module(package)
    every = {n: getattr(face, n) for n in face.__all__ if not n.startswith("__")}
    functions = [n for n, v in every.items() if callable(v) and not isinstance(v, type)]
    classes = [n for n, v in every.items() if isinstance(v, type)]
    parts = []
    for title, listed, kind in (("Functions", functions, "autofunction"), ("Classes", classes, "autoclass")):
        if listed:
            parts += [f"## {title}", *(_described(kind, f"{package}.{n}") for n in listed)]
    return "\n\n".join(parts)


def _described(kind: str, name: str) -> str:
    members = "   :members:\n   :show-inheritance:\n" if kind == "autoclass" else ""
    return f"### `{name.rpartition('.')[2]}`\n\n```{{eval-rst}}\n.. {kind}:: {name}\n{members}```"


def escaped(text: str) -> str:
    """Prose for Markdown: code between backticks and a word between stars are markup, and nothing else is."""
    parts = re.split(r"(`[^`]*`|\*\w+\*)", text)
    return "".join(re.sub(r"[\\*_<>\[\]$#|]", r"\\\g<0>", p) if i % 2 == 0 else p for i, p in enumerate(parts))


@dataclass(frozen=True)
class Audited:
    """An audit in the gallery, or several compared.

    Attributes:
        folder: its folder below `docs/gallery`: `title.txt`, `result.json.gz` and `shot.png`, as `take_up.py` writes
            them.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name

    @property
    def title(self) -> str:
        """Above it."""
        return (self.folder / "title.txt").read_text(encoding="utf-8").strip()

    @cached_property
    def found(self) -> AuditResult | Comparison:
        """What was measured."""
        plain = json.loads(gzip.decompress((self.folder / RESULT).read_bytes()))
        return (Comparison if plain["kind"] == Comparison.kind else AuditResult).from_dict(plain)

    def page(self) -> str:
        """Its own page, as this version draws it."""
        return as_html(replace(self.found.report(), pages=self._beside()))  # the pages of an audit's parts are not kept

    def _beside(self) -> dict[str, str]:
        """The gallery's pages of what is compared."""
        compared = self.found.audits if isinstance(self.found, Comparison) else ()
        return {f"The audit of {a['label']}": f"../{a['folder']}/audit.html" for a in compared}


def audits(folder: Path = GALLERY) -> list[Audited]:
    """Those in a folder, by name."""
    return [Audited(file.parent) for file in sorted(folder.glob(f"*/{RESULT}"))]


def gallery(_: str, folder: Path = GALLERY) -> str:
    """Every audit: its verdict, its picture, its page, the command that made it."""
    every = [_audit(a) for a in audits(folder)]
    return "\n\n".join(every) or "No audit is here yet."


def _audit(audit: Audited) -> str:
    where = f"gallery/{audit.name}"
    page = f'<p><a href="{where}/audit.html">The page itself</a>: one file, which needs no network.</p>'
    others = [v for v in ("narrow", "dark", "print") if (audit.folder / f"{v}.png").exists()]
    seen = [f"The same page, {v}:\n\n{_shot(audit, v)}" for v in others]
    command = f"```sh\n{audit.found.provenance['command']}\n```"
    return "\n\n".join(
        [f"## {escaped(audit.title)}", *map(escaped, audit.found.sentences), _shot(audit), page, command, *seen]
    )


def _shot(audit: Audited, view: str = "") -> str:
    """A picture of the page, and for who does not see it what it is."""
    about = f":alt: The page {audit.name}{view and f', {view}'}"
    width = "45%" if view == "narrow" else "100%"
    return f"```{{image}} gallery/{audit.name}/{view or 'shot'}.png\n{about}\n:width: {width}\n```"


WRITERS: Mapping[str, Callable[[str], str]] = {
    "commands": commands,
    "names": names,
    "running": running,
    "gallery": gallery,
}


def written_by(text: str) -> Sequence[tuple[str, str]]:
    """What a page asks for: pairs of a writer and what it is given."""
    return [(mark[1], mark[2] or "") for mark in MARK.finditer(text)]
