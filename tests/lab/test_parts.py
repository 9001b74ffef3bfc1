import json
from pathlib import Path

import pytest

from whatwhere.lab import parts as module
from whatwhere.lab.parts import EVERY, Parts


def test_parts_are_written_now_and_then_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    file = tmp_path / "checkpoints" / "cell.json"
    parts = Parts(file, {"cell": (1, 2)})
    parts.add("a", "x")
    assert not file.exists(), "each part would cost a write"
    now[0] += EVERY + 0.1
    parts.add("b", [1])
    parts.add("c", 3)  # lost by a kill now
    again = Parts(file, {"cell": [1, 2]})
    assert ("a" in again, "b" in again, "c" in again) == (True, True, False)
    assert (again["a"], again["b"]) == ("x", [1])


def test_an_interruption_writes_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "cell.json"

    def interrupted() -> None:
        with Parts(file) as parts:
            parts.add("a", 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "a" in Parts(file)


def test_a_whole_cell_leaves_no_file(tmp_path: Path) -> None:
    with Parts(tmp_path / "cell.json") as parts:
        parts.add("a", 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"of": 2, "parts": {"a": 1}}', '{"of": 1}', '{"of": 1, "parts": []}'])
def test_parts_of_something_else_and_damaged_ones_count_for_nothing(text: str, tmp_path: Path) -> None:
    file = tmp_path / "cell.json"
    file.write_text(text)
    parts = Parts(file, 1)
    assert "a" not in parts
    parts.add("b", 2)
    parts.write()
    assert json.loads(file.read_text()) == {"of": 1, "parts": {"b": 2}}


def test_without_a_file_they_are_in_memory(tmp_path: Path) -> None:
    parts = Parts()
    parts.add("a", 1)
    parts.write()
    assert parts["a"] == 1
