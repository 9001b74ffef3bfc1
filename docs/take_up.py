"""Put a finished audit into the gallery: its result, of which the site's build writes the page, and a picture of that.

    python docs/take_up.py AUDIT NAME "whatwhere audit --model ... --data ..." [--title TEXT] [--hide]

With `--hide` the page shows none of the pictures that were asked: those of data sets that are not ours.
"""

import argparse
import gzip
import json
import shlex
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from written import GALLERY, RESULT, Audited

import whatwhere as ww
from whatwhere.audits.result import AuditResult
from whatwhere.files import write_bytes, write_text

HIDDEN = "The pictures that were asked are not shown here: they are not ours to show."
SIZE, COLOURS = (1280, 1500), 128


def take_up(found: AuditResult, name: str, command: str, *, title: str, hide: bool, folder: Path = GALLERY) -> Path:
    """Write an audit's files.

    Args:
        found: the audit.
        name: of its folder in the gallery.
        command: that made it.
        title: above it.
        hide: whether the pictures are left out.
        folder: of the gallery.
    """
    shown = renamed(without_pictures(found) if hide else found, command)
    kept = replace(shown, provenance={**shown.provenance, "command": command})
    there = folder / name
    write_text(there / "title.txt", title + "\n")
    write_bytes(there / RESULT, gzip.compress(json.dumps(kept.to_dict()).encode(), 9, mtime=0))
    return there


def renamed(found: AuditResult, command: str) -> AuditResult:
    """The same audit, with what the command calls its files instead of where they lay.

    Args:
        found: the audit.
        command: that is shown.
    """
    given, text = shlex.split(command), json.dumps(found.to_dict())
    words = list(found.settings.get("words", ()))
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option in given:
            shown = given[given.index(option) + 1]
            text = text.replace(json.dumps(value)[1:-1], json.dumps(shown)[1:-1]) if "/" in value[:1] else text
    return AuditResult.from_dict(json.loads(text))


def without_pictures(found: AuditResult) -> AuditResult:
    """The same numbers, no picture."""
    parts = {name: dict(plain) for name, plain in found.parts.items()}
    for name, field in (("hold", "gallery"), ("failures", "shown")):
        if name in parts:
            parts[name].pop(field, None)
    return replace(found, parts=parts, notes=(*found.notes, HIDDEN))


def photograph(there: Path, chromium: str = "chromium") -> None:
    """Take a picture of the page's beginning, in few colours."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as made:
        page, shot = Path(made) / "audit.html", Path(made) / "shot.png"
        page.write_text(Audited(there).page(), encoding="utf-8")
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=4000"]
        size = "--window-size={},{}".format(*SIZE)
        subprocess.run([chromium, *options, size, f"--screenshot={shot}", page.as_uri()], check=True, timeout=120)
        Image.open(shot).convert("RGB").quantize(COLOURS).save(there / "shot.png", optimize=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audit", type=Path)
    parser.add_argument("name")
    parser.add_argument("command")
    parser.add_argument("--title")
    parser.add_argument("--hide", action="store_true")
    given = parser.parse_args()
    found = ww.load_result(given.audit)
    if not isinstance(found, AuditResult):
        parser.error(f"{given.audit} holds no audit.")
    title = given.title or f"{found.network} on {found.data['name']}"
    photograph(take_up(found, given.name, given.command, title=title, hide=given.hide))


if __name__ == "__main__":
    main()
