"""The list of wings, and what follows from it: a fifth instrument needs a package and one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import whatwhere as ww
from small_engine import Elsewhere
from whatwhere import wings
from whatwhere.cli import main
from whatwhere.errors import InputError

TESTS = Path(__file__).parent
COMMAND = """
import sys
from whatwhere import wings
wings.WINGS.append("toywing")
from whatwhere.cli import main
if __name__ == "__main__":
    main(sys.argv[1:])
"""


def toy(*words: object, code: int = 0) -> str:
    """The command line, with the toy wing registered by one line."""
    script = [sys.executable, "-c", COMMAND, *map(str, words)]
    done = subprocess.run(
        script, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(TESTS)}
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(wings, "WINGS", [*wings.WINGS, "toywing"])


def cells(folder: Path) -> dict[str, int]:
    return {f.name: f.stat().st_mtime_ns for f in (folder / "cells").glob("*.json")}


def test_the_toy_wing_is_small():
    lines = [f.read_text().count("\n") for f in (TESTS / "toywing").glob("*.py")]
    assert sum(lines) <= 120


def test_a_fifth_instrument_has_a_command_with_help():
    assert "How bright is *where*?" in toy("--help")
    assert "Measure the mean brightness" in toy("toywing", "--help")
    said = toy("toywing", "brightness", "--help")
    assert "--quadrants" in said
    assert "--workers" in said
    assert "whatwhere toywing brightness --data digits --quadrants top-left,bottom-right --pictures 20" in said
    assert "Did you mean --quadrants?" in toy("toywing", "brightness", "--data", "digits", "--quadrant", "a", code=2)


@pytest.mark.slow
def test_a_fifth_instrument_resumes_would_run_elsewhere_and_has_a_page(tmp_path, registered):
    out = tmp_path / "out"
    how = ("toywing", "brightness", "--data", "digits", "--out", out, "--pictures", 20)
    toy(*how, "--quadrants", "top-left")
    first = cells(out)
    said = toy(*how)
    assert "The brightest quadrant is" in said
    assert f"open {out / 'index.html'}" in said
    assert len(first) == 1
    assert len(cells(out)) == 4
    assert first.items() <= cells(out).items()  # the finished cell was not run again
    assert "The brightest quadrant is" in (out / "index.html").read_text()
    here = ww.load_result(out)
    assert here.to_frame().shape == (4, 2)
    from toywing.brightness import Brightness

    for engine in (None, Elsewhere()):
        alone = Brightness("digits", pictures=20).run(quiet=True, engine=engine)
        assert sorted(map(str, alone.rows)) == sorted(map(str, here.rows))


def test_a_fifth_instrument_refuses_a_foreign_folder_and_a_wrong_option(tmp_path, registered, capsys):
    how = ("toywing", "brightness", "--data", "digits", "--out", str(tmp_path))
    main([*how, "--quadrants", "top-left", "--pictures", "10"])
    wrong = {
        "pictures: 10 there, 20 now": ("--pictures", "20"),
        "quadrants='top-lft' matches nothing. Did you mean 'top-left'": ("--pictures", "10", "--quadrants", "top-lft"),
    }
    for message, options in wrong.items():
        with pytest.raises(SystemExit):
            main([*how, *options])
        assert message in capsys.readouterr().err


def test_every_wing_says_what_it_asks_and_every_command_is_there():
    assert list(wings.wings()) == ["need", "hold", "use", "say"]
    for package in wings.WINGS:
        assert wings.summary(package)
        assert wings.commands_of(package)
    assert {"red-green", "location", "dependency", "position"} <= set(wings.result_classes())


def test_a_result_is_read_by_its_kind(tmp_path):
    for name in ("curve", "readout", "pattern", "red_green", "location", "compare", "bottleneck"):
        stored = TESTS / "golden" / name
        result = ww.load_result(stored)
        plain = json.loads((stored / "result.json").read_text())
        assert json.loads(json.dumps(result.to_dict())) == plain
        assert result.table()
        assert len(result.to_frame())


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "result.json").write_text('{"kind": "horoscope"}')
    with pytest.raises(InputError, match="red-green"):
        ww.load_result(tmp_path)


@pytest.mark.parametrize("kind", [k for k in wings.result_classes() if k != "demo"])
def test_another_schema_version_is_refused(kind):
    with pytest.raises(InputError, match="version"):
        wings.result_classes()[kind].from_dict({"kind": kind, "schema_version": 99})
