"""The code in the documentation runs, in the order of each page."""

import ast
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from small_audit import audit
from small_choice import on_demand
from whatwhere import wings
from whatwhere.audits.comparison import Comparison

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.md"))
PAGES = [
    *ROOT.glob("*.md"),
    *(p for p in DOCS.rglob("*.md") if "_build" not in p.parts),
    *(ROOT / "src").rglob("README.md"),
]
sys.path.insert(0, str(DOCS))  # as the site's build finds it

import take_up  # noqa: E402
import written  # noqa: E402


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.S)


def cells(notebook: Path) -> list[str]:
    return re.findall(r"```{code-cell} ipython3\n(.*?)```", notebook.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(ROOT)))
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    names: dict[str, object] = {"print": lambda *values, sep=" ", **_: printed.append(sep.join(map(str, values)))}
    code = blocks(page)
    for block in code:
        exec(compile(block, str(page), "exec"), names)
    statements = [ast.unparse(node) for block in code for node in ast.parse(block).body]
    assert len(printed) >= sum(text.startswith("print(") for text in statements)  # more in a loop
    assert all(text.strip() and "<function" not in text for text in printed)  # each shows the reader something


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(notebook, tmp_path, monkeypatch, capsys):
    """In this process, which has loaded most of what it needs; the site's build runs it in a kernel."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells(notebook):
        exec(compile(cell, str(notebook), "exec"), names)
        assert capsys.readouterr().out or "print(" not in cell
    assert not list(tmp_path.iterdir())  # nothing is left with the reader


def test_every_command_and_name_is_on_a_page():
    """Not one is missing, and those that are gone are not there any more: pages ask for whole wings."""
    asked = {mark for page in (DOCS / "reference").glob("*.md") for mark in written.written_by(page.read_text())}
    assert asked == {
        *(("commands", wing) for wing in ("", *wings.wings())),
        *(("names", package) for package in ("whatwhere", *wings.WINGS)),
        ("running", ""),
    }
    for wing in wings.wings():
        page = written.commands(wing)
        assert all(f"### whatwhere {wing} {name}\n" in page for name in wings.commands_of(wings.wings()[wing]))
    options = {line.split("`")[1] for line in written.commands("need").splitlines() if line.startswith("`--")}
    assert {"--methods", "--tolerance", "--freeze"} <= options
    assert not {"--engine", "--workers"} & options  # these are said once, for all
    assert "`--engine` text\n: ray" in written.running("")
    names = written.names("whatwhere.hold")
    assert "autofunction:: whatwhere.hold.readout" in names
    assert "autoclass:: whatwhere.hold.RidgeFit" in names


def test_prose_of_a_docstring_is_no_markup():
    assert written.escaped("a_b <x> `c_d` *where* 1|2 [q] *") == "a\\_b \\<x\\> `c_d` *where* 1\\|2 \\[q\\] \\*"


def test_the_gallery_shows_what_is_in_its_folder(tmp_path):
    assert written.gallery("", tmp_path) == "No audit is here yet."
    found = replace(audit(), network="a_net")
    for name in ("b", "a"):
        take_up.take_up(found, name, f"whatwhere audit --model {name}", title=f"Net_{name}", hide=True, folder=tmp_path)
    shown = written.gallery("", tmp_path)
    assert [a.name for a in written.audits(tmp_path)] == ["a", "b"]
    assert shown.count("The page itself") == 2
    assert "## Net\\_a\n\na\\_net has 80.0 % \\[78.0, 82.0\\] accuracy" in shown
    assert "```sh\nwhatwhere audit --model b\n```" in shown


def test_a_comparison_leads_to_the_audits_that_it_compares(tmp_path):
    found = Comparison(tuple({"label": f"net-{n}", "folder": n} for n in "ab"), ())
    command = "whatwhere compare a b"
    with pytest.raises(SystemExit, match="a, b: not in the gallery"):
        take_up.take_up(found, "both", command, title="Both", folder=tmp_path)
    assert not list(tmp_path.iterdir())
    for name in "ab":
        take_up.take_up(audit(), name, "whatwhere audit", title=name, folder=tmp_path)
    elsewhere = replace(found, audits=({"label": "net-a", "folder": "../gallery/a"},))
    with pytest.raises(SystemExit, match=r"\.\./gallery/a: not in the gallery"):
        take_up.take_up(elsewhere, "both", command, title="Both", folder=tmp_path)
    kept = written.Audited(take_up.take_up(found, "both", command, title="Both", folder=tmp_path))
    page = kept.page()
    assert all(f'href="../{name}/audit.html">The audit of net-{name}' in page for name in "ab")
    assert "## Both\n" in written.gallery("", tmp_path)


@pytest.mark.parametrize("audit", written.audits(), ids=lambda a: a.name)
def test_an_audit_in_the_gallery_is_whole_and_light(audit):
    sizes = {f.name: f.stat().st_size for f in audit.folder.iterdir()}
    others = {name: sizes.pop(name) for name in ("narrow.png", "dark.png", "print.png") if name in sizes}
    assert set(sizes) == {"title.txt", "result.json.gz", "shot.png"}
    assert sum(sizes.values()) <= 200_000
    assert sum(others.values()) <= 300_000
    assert audit.found.sentences
    assert len(audit.page()) <= 2_000_000


def test_the_page_is_shown_in_every_view_that_was_taken(tmp_path):
    there = take_up.take_up(
        replace(audit(), network="net"), "a", "whatwhere audit", title="A", hide=True, folder=tmp_path
    )
    assert "narrow" not in written.gallery("", tmp_path)
    for name in ("narrow", "print"):
        (there / f"{name}.png").touch()
    shown = written.gallery("", tmp_path)
    assert [line for line in shown.splitlines() if line.startswith("```{image}")] == [
        "```{image} gallery/a/shot.png",
        "```{image} gallery/a/narrow.png",
        "```{image} gallery/a/print.png",
    ]
    assert "The same page, print:" in shown


def test_one_page_of_the_gallery_is_seen_wide_narrow_dark_and_printed():
    views = ("shot", "narrow", "dark", "print")
    assert any(all((a.folder / f"{v}.png").exists() for v in views) for a in written.audits())


@on_demand
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("myst_nb", reason="`make docs` installs what the site is built with")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-c", "docs", ".", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


TAKEN = [{"group": "g", "caption": "mine alone", "png": ""}]


def audited():
    found = audit()
    parts = {**found.parts, "failures": {"pictures": 3, "shown": TAKEN}}
    return replace(found, parts=parts, provenance={"command": "whatwhere audit --data /home/me/pictures"})


def test_it_keeps_the_verdict_the_command_and_the_page(tmp_path):
    found = replace(audited(), parts=audit().parts)
    there = take_up.take_up(found, "net", "whatwhere audit --data D", title="Net on d", hide=False, folder=tmp_path)
    kept = written.Audited(there)
    assert kept.title == "Net on d"
    assert (kept.found.sentences, kept.found.table()) == (found.sentences, found.table())
    assert kept.found.provenance["command"] == "whatwhere audit --data D"
    page = kept.page()
    assert "/home/me" not in page
    assert found.sentences[0].split(".")[0] in page


def test_pictures_that_are_not_ours_are_left_out_and_nothing_else():
    found = audited()
    hidden = take_up.without_pictures(found)
    assert hidden.parts["failures"] == {"pictures": 3}
    assert "gallery" not in hidden.parts["hold"]
    assert (hidden.sentences, hidden.table()) == (found.sentences, found.table())
    assert take_up.HIDDEN in hidden.notes
    assert found.parts["failures"]["shown"] == TAKEN


def test_where_files_lay_is_not_in_the_gallery(tmp_path):
    words = ["--model", "a/b", "--data", "/home/me/pictures", "--weights", "/home/me/w.safetensors"]
    found = audited()
    found = replace(
        found,
        settings={**found.settings, "words": words, "pictures": 900},
        left_out={"say": "x --data /home/me/pictures"},
    )
    command = "whatwhere audit --model a/b --data D --weights W --minutes 5"
    there = take_up.take_up(found, "net", command, title="t", hide=True, folder=tmp_path)
    page = written.Audited(there).page()
    assert "/home/me" not in page
    assert "whatwhere audit --model a/b --data D --weights W --minutes 20" in page
