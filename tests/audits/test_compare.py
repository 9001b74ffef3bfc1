"""The command and the function: what they print, and what they write."""

import pytest

import whatwhere as ww
from whatwhere.arguments import Docs, parser_of
from whatwhere.audits.compare import compared
from whatwhere.cli import main
from whatwhere.errors import InputError


def test_the_terminal_has_a_table_the_answer_and_the_path(audits, tmp_path, capsys):
    out = tmp_path / "out"
    main(["compare", str(audits["net"]), str(audits["broken"]), "--out", str(out)])
    text = capsys.readouterr().out
    assert text.startswith("small (broken) against small (net)\nquantity")
    assert "differs for sure" in text
    assert text.rstrip().endswith(f"open {out / 'index.html'}")
    assert ww.load_result(out).conclusion in text


def test_without_a_folder_nothing_is_written(audits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = compared(str(audits["net"]), str(audits["again"]))
    assert text.endswith("every difference is 0.")
    assert list(tmp_path.iterdir()) == []


def test_python_takes_the_same(audits):
    found = ww.compare(audits["net"], audits["again"], audits["broken"])
    assert len(found.sentences) >= 2


def test_an_audit_is_not_written_over(audits):
    with pytest.raises(InputError, match="holds a study"):
        ww.compare(audits["net"], audits["broken"], out=audits["net"])


def test_folders_are_typed_without_an_option_before_them():
    text = parser_of("whatwhere compare", compared).format_help()
    assert text.startswith("usage: whatwhere compare FOLDERS ... [--option value ...]")
    assert "that whatwhere audit wrote" in text
    assert all(line.startswith("whatwhere compare ") for line in Docs.of(compared).examples)
