"""The table of claims says what the kept results say, and its commands are today's."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from whatwhere import wings
from whatwhere.arguments import parsed
from whatwhere.lab.study import loaded

FOLDER = Path(__file__).parent.parent.parent / "reproductions"
TOLD = yaml.safe_load((FOLDER / "claims.yaml").read_text(encoding="utf-8"))
spec = importlib.util.spec_from_file_location("claims", FOLDER / "claims.py")
assert spec
assert spec.loader
claims = importlib.util.module_from_spec(spec)
spec.loader.exec_module(claims)


def test_the_page_is_of_today_s_results():
    assert claims.PAGE.read_text(encoding="utf-8") == claims.page(), "run `python reproductions/claims.py`"


def test_every_claim_has_a_verdict_and_a_folder():
    for claim in TOLD["claims"]:
        assert claim["verdict"].startswith(claims.VERDICTS)
        assert {"paper", "claim", "from", "where", "value", "verdict"} <= set(claim)
    used = {Path(c["from"]).parent.as_posix() for c in TOLD["claims"]}
    assert used == set(TOLD["folders"])


def test_every_reproduction_is_in_the_table():
    linked = set(
        re.findall(r"\]\((\w+)/README.md\)|\(`?(\w+)/`?\]", (FOLDER / "README.md").read_text(encoding="utf-8"))
    )
    folders = {name for pair in linked for name in pair if name}
    assert folders == {Path(c["from"]).parts[0] for c in TOLD["claims"]}


@pytest.mark.parametrize("folder", [f for f, t in TOLD["folders"].items() if t["command"].startswith("whatwhere")])
def test_a_command_is_one_that_can_be_typed(folder, monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    _, wing, command, *words = shlex.split(TOLD["folders"][folder]["command"])
    where = wings.commands_of(wings.wings()[wing])[command]
    assert parsed(f"whatwhere {wing} {command}", loaded(where), words)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "HERE", tmp_path)
    rows = [
        {"name": "a", "measured": {"drop": {"mean": 0.0123, "low": -0.001, "high": 0.02, "n": 1200, "repeats": 3}}},
        {"name": "b", "spc": {"mean": -0.5, "low": -0.75, "high": 0.25, "n": 7, "repeats": 1}},
        {"name": "b"},
    ]
    (tmp_path / "result.json").write_text(json.dumps({"rows": rows}))
    (tmp_path / "table.csv").write_text(
        'site,SPC,SPC 95 %,gain,pictures\nx,0.5,"[0.4, +0.6]","+1.5 [+1.0, +2.0]",9\ny,,,,9\n'
    )
    return tmp_path


def test_a_number_is_the_results(kept):
    share = {"from": "result.json", "where": {"rows": "rows", "name": "a"}, "value": "measured.drop", "unit": "points"}
    assert claims.estimate_of(share) == ("1.23 [-0.10, 2.00]", "1,200 pictures, 3 draws or seeds")
    table = {"from": "table.csv", "where": {"site": "x"}}
    assert claims.estimate_of({**table, "value": "SPC"}) == ("0.5 [0.4, 0.6]", "9 pictures")
    assert claims.estimate_of({**table, "value": "gain"}) == ("1.5 [1.0, 2.0]", "9 pictures")


def test_a_row_that_is_not_the_only_one_is_refused(kept):
    with pytest.raises(ValueError, match="2 rows"):
        claims.estimate_of({"from": "result.json", "where": {"rows": "rows", "name": "b"}, "value": "spc"})
    with pytest.raises(ValueError, match="0 rows"):
        claims.estimate_of({"from": "table.csv", "where": {"site": "z"}, "value": "SPC"})
    with pytest.raises(ValueError, match="no number with an interval"):
        claims.estimate_of({"from": "table.csv", "where": {"site": "y"}, "value": "SPC"})
