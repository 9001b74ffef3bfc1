"""Results: what is saved comes back, and nothing of another's is read or replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from small_result import SquaresResult
from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.lab.result import Result

SQUARES = SquaresResult(({"x": 1, "square": 1}, {"x": 3, "square": 9}), ("A note.",), {"seconds": 2.5})


def test_a_result_saved_beside_others_of_its_kind_replaces_them_and_no_other_file(tmp_path):
    result = SQUARES
    result.save(tmp_path)
    result.save(tmp_path)
    (tmp_path / "result.json").write_text('{"kind": "cubes", "schema_version": 1}')
    with pytest.raises(InputError, match=r"result\.json, table\.csv, index\.html are there already"):
        result.save(tmp_path)
    assert "cubes" in (tmp_path / "result.json").read_text()
    result.save(tmp_path, overwrite=True)
    assert SquaresResult.load(tmp_path) == result


def test_another_kind_or_version_is_refused():
    for wrong in ({"kind": "cubes", "schema_version": 1}, {"kind": "squares", "schema_version": 2}):
        with pytest.raises(InputError, match="reads kind 'squares', version 1"):
            SquaresResult.from_dict({**wrong, "rows": []})


def test_a_result_is_plain_values_and_comes_back(tmp_path: Path) -> None:
    page = SQUARES.save(tmp_path)
    assert page == tmp_path / "index.html"
    assert read_json(tmp_path / "result.json") == {
        "kind": "squares",
        "rows": [{"x": 1, "square": 1}, {"x": 3, "square": 9}],
        "notes": ["A note."],
        "provenance": {"seconds": 2.5},
        "schema_version": 1,
    }
    assert (tmp_path / "table.csv").read_text() == "x,square\n1,1\n3,9\n"
    again = SquaresResult.load(str(tmp_path))
    assert again == SQUARES
    assert isinstance(again.rows, tuple)


def test_rows_as_numbers_have_a_column_for_each_value() -> None:
    @dataclass(frozen=True)
    class Point:
        name: str
        at: Point | None = None

    class Points(SquaresResult):
        def records(self) -> list[object]:  # type: ignore[override]
            return [Point("a", Point("b")), {"name": "c", "at": {"name": "d", "at": None}}]

    frame = Points(()).to_frame()
    assert list(frame["name"]) == ["a", "c"]
    assert list(frame["at.name"]) == ["b", "d"]


def test_files_written_since_a_study_began_are_its_own_and_older_ones_are_not(tmp_path: Path) -> None:
    table, study = tmp_path / "table.csv", tmp_path / "study.json"
    study.write_text("{}")
    table.write_text("mine")
    os.utime(study, ns=(10**9, 10**9))
    os.utime(table, ns=(10**9 - 1, 10**9 - 1))
    with pytest.raises(InputError, match=r"table\.csv is there already"):
        SQUARES.save(tmp_path)
    assert table.read_text() == "mine"
    os.utime(table, ns=(10**9, 10**9))
    SQUARES.save(tmp_path)
    assert table.read_text().startswith("x,square")


def test_a_result_without_kind_is_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('["squares"]')
    with pytest.raises(InputError, match=r"result\.json is there already"):
        SQUARES.save(tmp_path)


def test_every_part_of_a_result_must_be_written() -> None:
    bare = Result()
    for part in ("records", "table", "plot", "report"):
        with pytest.raises(NotImplementedError):
            getattr(bare, part)()
    with pytest.raises(NotImplementedError):
        _ = bare.conclusion


def test_it_is_shown_in_short() -> None:
    assert repr(SQUARES) == "<SquaresResult, 2 rows: 2 squares.>"
    many = SquaresResult(tuple({"x": x, "square": x * x} for x in range(31)))
    assert len(repr(many)) < 60
    shown = many._repr_html_()
    assert "<p>31 squares.</p>" in shown
    assert "The first 30 of 31 rows; .table() has all." in shown
    assert ".notes" not in shown
    assert "What else to know is in .notes (1)." in SQUARES._repr_html_()


def test_a_class_may_show_itself_in_its_own_way() -> None:
    @dataclass(frozen=True)
    class Own(SquaresResult):
        def __repr__(self) -> str:
            return "own"

    assert repr(Own(())) == "own"
