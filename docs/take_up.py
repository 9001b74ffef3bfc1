"""Put a finished audit into the gallery: its result, of which the site's build writes the page, and a picture of that.

    python docs/take_up.py AUDIT NAME "whatwhere audit --model ... --data ..." [--title TEXT] [--hide] [--views all]
    python docs/take_up.py COMPARED NAME "whatwhere compare FIRST SECOND" --title TEXT

Audits that are compared must be in the gallery, in folders of the names that they were compared by. With `--hide` the
page shows none of the pictures that were asked: those of data sets that are not ours. `--views` are wide, narrow, dark
and print.
"""

import argparse
import gzip
import io
import json
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from written import GALLERY, RESULT, Audited

import whatwhere as ww
from whatwhere.audits.comparison import Comparison
from whatwhere.audits.result import AuditResult
from whatwhere.files import write_bytes, write_text

HIDDEN = "The pictures that were asked are not shown here: they are not ours to show."
COLOURS = 128
VIEWS = {
    "wide": {"viewport": {"width": 1280, "height": 1500}},
    "narrow": {"viewport": {"width": 390, "height": 1500}},
    "dark": {"viewport": {"width": 1280, "height": 1500}, "color_scheme": "dark"},
    "print": {"viewport": {"width": 794, "height": 1123}},  # A4 at 96 dots an inch
}


def take_up(
    found: AuditResult | Comparison, name: str, command: str, *, title: str, hide: bool = False, folder: Path = GALLERY
) -> Path:
    """Write the files of an audit, or of several compared.

    Args:
        found: the audit, or the comparison.
        name: of its folder in the gallery.
        command: that made it.
        title: above it.
        hide: whether the pictures of an audit are left out; a comparison shows none.
        folder: of the gallery.
    """
    shown = renamed(without_pictures(found) if hide else found, command) if isinstance(found, AuditResult) else found
    kept = replace(shown, provenance={**shown.provenance, "command": command})
    there = folder / name
    if isinstance(found, Comparison):
        names = [a["folder"] for a in found.audits]
        lacking = [n for n in names if Path(n).name != n or not (folder / n / RESULT).is_file()]
        if lacking:
            raise SystemExit(f"{', '.join(lacking)}: not in the gallery; take the audits up first.")
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


def photograph(there: Path, views: Sequence[str] = ("wide",), chromium: str | None = None) -> list[Path]:
    """Take pictures of the page's beginning, in few colours.

    Args:
        there: folder of the audit.
        views: of the page, some of `VIEWS`.
        chromium: the browser; the one that is installed if not given.
    """
    from playwright.sync_api import sync_playwright

    made = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "audit.html"
        page.write_text(Audited(there).page(), encoding="utf-8")
        browser = playwright.chromium.launch(
            executable_path=chromium or shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name in views:
            made.append(there / ("shot.png" if name == "wide" else f"{name}.png"))
            _taken(browser, page, name, made[-1])
        browser.close()
    return made


def _taken(browser: Any, page: Path, name: str, file: Path) -> None:
    from PIL import Image

    tab = browser.new_context(offline=True, **VIEWS[name]).new_page()
    tab.emulate_media(media="print" if name == "print" else "screen")
    tab.goto(page.as_uri())
    tab.wait_for_selector("figure.chart svg")
    shot = Image.open(io.BytesIO(tab.screenshot()))
    shot.convert("RGB").quantize(COLOURS).save(file, optimize=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audit", type=Path)
    parser.add_argument("name")
    parser.add_argument("command")
    parser.add_argument("--title")
    parser.add_argument("--hide", action="store_true")
    parser.add_argument("--views", default="wide", help=f"separated by commas, of {', '.join(VIEWS)}; all: every one")
    given = parser.parse_args()
    found = ww.load_result(given.audit)
    if not isinstance(found, AuditResult | Comparison):
        parser.error(f"{given.audit} holds no audit.")
    audit = isinstance(found, AuditResult)
    title = given.title or (f"{found.network} on {found.data['name']}" if audit else found.report().title)
    views = tuple(VIEWS) if given.views == "all" else given.views.split(",")
    photograph(take_up(found, given.name, given.command, title=title, hide=given.hide), views)


if __name__ == "__main__":
    main()
