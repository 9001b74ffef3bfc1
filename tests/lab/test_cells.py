import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json
from whatwhere.lab.cells import Cell, CellFiles, Store, mark_of, opened
from whatwhere.lab.claims import Claim

CONFIG: dict[str, Any] = {
    "do": "train",
    "seed": 0,
    "share": 0.31,
    "recipe": {"lr": 0.1, "milestones": [1, 2]},
    "site": None,
}
STUDY = {"model": "cifar/vgg16", "repeats": 10, "shares": (0.31, 0.5)}


def test_the_key_is_the_hash_of_the_sorted_json() -> None:
    text = '{"do": "train", "recipe": {"lr": 0.1, "milestones": [1, 2]}, "seed": 0, "share": 0.31, "site": null}'
    assert Cell(CONFIG).key == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_order_label_and_kind_of_sequence_do_not_matter() -> None:
    turned = {k: CONFIG[k] for k in reversed(CONFIG)}
    turned["recipe"] = {"milestones": (1, 2), "lr": 0.1}
    assert Cell(turned, "another label").key == Cell(CONFIG).key


def variants(value: Any) -> list[Any]:
    """The value with one leaf changed, for every leaf."""
    if isinstance(value, dict):
        changed = [{**value, k: v} for k, inner in value.items() for v in variants(inner)]
        return [*changed, *({k: v for k, v in value.items() if k != gone} for gone in value), {**value, "new": 1}]
    if isinstance(value, list):
        return [
            *([*value[:i], v, *value[i + 1 :]] for i, inner in enumerate(value) for v in variants(inner)),
            value[1:],
        ]
    return ["another", 17, 0.5, True]


def test_the_key_changes_with_every_value() -> None:
    keys = [Cell(c).key for c in (CONFIG, *variants(CONFIG))]
    assert len(keys) > 20
    assert len(set(keys)) == len(keys)


def test_a_key_that_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = Cell({"lr": float("nan")}).key


def test_a_result_comes_back(tmp_path: Path) -> None:
    store, cell = Store(tmp_path / "new", STUDY), Cell(CONFIG, "a label")
    assert not store.has(cell)
    store.save(cell, {"accuracy": 0.1 + 0.2, "hits": [1, 2]}, seconds=1.5)
    assert store.has(cell)
    assert Store(tmp_path / "new", STUDY).load(Cell(dict(CONFIG))) == {"accuracy": 0.1 + 0.2, "hits": [1, 2]}
    plain = json.loads(store.file(cell).read_text())
    assert (plain["config"], plain["label"], plain["seconds"]) == (CONFIG, "a label", 1.5)


def test_a_kill_before_the_rename_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, one, two = Store(tmp_path, STUDY), Cell(CONFIG), Cell({**CONFIG, "seed": 1})
    store.save(one, {"accuracy": 0.5})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    for cell in (one, two):
        with pytest.raises(KeyboardInterrupt):
            store.save(cell, {"accuracy": 0.9})
    assert store.load(one) == {"accuracy": 0.5}
    assert not store.has(two)


def test_a_full_disk_names_the_fix_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cell = Store(tmp_path, STUDY), Cell(CONFIG)
    store.save(cell, {"accuracy": 0.5})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        InputError, match=r"No space left on device\. Free some space .* what was finished before is kept"
    ):
        store.save(cell, {"accuracy": 0.9})
    assert store.load(cell) == {"accuracy": 0.5}


def test_another_study_is_refused_and_told_apart(tmp_path: Path) -> None:
    Store(tmp_path, STUDY).save(Cell(CONFIG), {})
    Store(tmp_path, {**STUDY, "shares": [0.31, 0.5]})  # the same, as it is read back
    with pytest.raises(InputError) as seen:
        Store(tmp_path, {"model": "cifar/vgg16", "repeats": 5, "seed": 1})
    lines = str(seen.value).splitlines()
    assert "holds another study; choose another folder, or the same settings" in lines[0]
    assert str(tmp_path) in lines[0]
    assert lines[1:] == [
        "  repeats: 10 there, 5 now",
        "  seed: None there, 1 now",
        "  shares: [0.31, 0.5] there, None now",
    ]


def test_of_another_kind_of_study_nothing_else_is_told(tmp_path: Path) -> None:
    Store(tmp_path, {**STUDY, "study": "audit"}).save(Cell(CONFIG), {})
    with pytest.raises(InputError) as seen:
        Store(tmp_path, {"study": "curve", "batch": 8})
    assert str(seen.value).splitlines()[1:] == ["  study: 'audit' there, 'curve' now"]


def test_a_study_of_which_nothing_is_finished_may_be_reused(tmp_path: Path) -> None:
    """A corrupt picture was removed, or a wrong option corrected: the same command must run."""
    Store(tmp_path, STUDY)
    other = Store(tmp_path, {**STUDY, "repeats": 5})
    assert read_json(tmp_path / "study.json")["repeats"] == 5
    other.save(Cell(CONFIG), {})
    with pytest.raises(InputError, match="repeats: 5 there, 10 now"):
        Store(tmp_path, STUDY)
    assert other.contents() == {Cell(CONFIG).key: (CONFIG, {})}


def test_cells_or_a_result_of_an_unknown_study_are_not_adopted(tmp_path: Path) -> None:
    """A folder whose study.json is gone, and one whose cells are gone but whose result is there."""
    Store(tmp_path, STUDY).save(Cell(CONFIG), {})
    (tmp_path / "study.json").unlink()
    with pytest.raises(InputError, match=r"holds cells of an unknown study \(no study\.json\)"):
        Store(tmp_path, STUDY)
    other = tmp_path / "slimmed"
    Store(other, STUDY)
    write_json(other / "result.json", {})
    Store(other, STUDY)
    with pytest.raises(InputError, match="repeats: 10 there, 5 now"):
        Store(other, {**STUDY, "repeats": 5})
    assert read_json(other / "study.json")["repeats"] == 10


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 1'])
def test_a_damaged_cell_names_its_file_and_the_fix(tmp_path: Path, content: str) -> None:
    store, cell = Store(tmp_path, STUDY), Cell(CONFIG)
    store.save(cell, {})
    store.file(cell).write_text(content)
    with pytest.raises(InputError, match=rf"{cell.key}\.json is not a JSON file .* delete it and run the same command"):
        store.load(cell)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"schema_version": 1, "config": CONFIG},
        {"schema_version": 2, "config": CONFIG, "result": {}},
        {"schema_version": 1, "config": {**CONFIG, "seed": 1}, "result": {}},
    ],
)
def test_a_file_that_holds_something_else(tmp_path: Path, content: Any) -> None:
    store, cell = Store(tmp_path, STUDY), Cell(CONFIG)
    write_json(store.file(cell), content)
    for read in (lambda: store.load(cell), store.contents):
        with pytest.raises(InputError, match=rf"{cell.key}\.json does not hold the cell its name says; delete it"):
            read()


def test_a_damaged_study_file(tmp_path: Path) -> None:
    Store(tmp_path, STUDY).save(Cell(CONFIG), {})
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(InputError, match=r"study\.json does not describe a study; choose another folder or delete it"):
        Store(tmp_path, STUDY)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study\.json is not a JSON file"):
        Store(tmp_path, STUDY)


def test_contents_are_all_finished_cells_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cells = Store(tmp_path, STUDY), [Cell({**CONFIG, "seed": i}) for i in range(3)]
    for i, cell in enumerate(cells[:2]):
        Store(tmp_path, STUDY).save(cell, {"i": i})
    expected = {c.key: (dict(c.config), {"i": i}) for i, c in enumerate(cells[:2])}
    assert store.contents() == expected
    store.save(cells[2], {"i": 2})
    seen: list[Path] = []
    monkeypatch.setattr("whatwhere.lab.cells.read_json", lambda file: seen.append(file) or read_json(file))
    assert store.contents() == {**expected, cells[2].key: (cells[2].config, {"i": 2})}
    assert seen == [store.file(cells[2])]


def test_a_cell_is_stored_without_white_space(tmp_path: Path) -> None:
    store, cell = Store(tmp_path, STUDY), Cell(CONFIG)
    store.save(cell, {"confusions": [[0, 1], [2, 3]]})
    assert '"confusions":[[0,1],[2,3]]' in store.file(cell).read_text()


@pytest.mark.parametrize("name", ["study.json", "result.json", "table.csv", "index.html"])
def test_a_users_own_file_is_not_replaced_unless_told_to(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text('{"my": "own"}')
    with pytest.raises(
        InputError, match=rf"{name} is there already, and this command did not write it.*overwrite=true"
    ):
        Store(tmp_path, STUDY)
    assert {p.name for p in tmp_path.iterdir()} == {name}
    Store(tmp_path, STUDY, overwrite=True)
    assert read_json(tmp_path / "study.json")["model"] == STUDY["model"]


def test_a_folder_is_a_studys_from_the_start(tmp_path: Path) -> None:
    """Before its first cell runs, in a queue say, another study may not take it; the same command may share it."""
    with opened(tmp_path, STUDY):
        with pytest.raises(InputError, match="repeats: 10 there, 5 now"), opened(tmp_path, {**STUDY, "repeats": 5}):
            pass
        with opened(tmp_path, STUDY):
            pass
        with pytest.raises(InputError, match="repeats: 10 there, 5 now"):
            Store(tmp_path, {**STUDY, "repeats": 5})
    with opened(tmp_path, {**STUDY, "repeats": 5}):
        assert read_json(tmp_path / "study.json")["repeats"] == 5
    assert [p.name for p in tmp_path.rglob("*")] == ["study.json"]


def test_what_a_killed_command_left_does_not_hold_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Claim, "release", lambda self: None)
        with opened(tmp_path, STUDY):
            (left,) = tmp_path.glob("run-*.claim")
            gone = re.sub(r"pid=\d+", f"pid={2**22 + 1}", left.read_text())
    for file in (left, tmp_path / "opening.claim"):
        file.write_text(gone)
    with opened(tmp_path, {**STUDY, "repeats": 5}):
        assert not left.exists()


def test_a_cell_of_another_study_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    """Its key leaves out what the study says for all cells, the network say."""
    cell = Cell(CONFIG)
    Store(tmp_path / "a", STUDY).save(cell, {"accuracy": 0.9})
    other = Store(tmp_path / "b", {**STUDY, "model": "cifar/vgg11"})
    write_json(other.file(cell), read_json(tmp_path / "a" / "cells" / f"{cell.key}.json"))
    for read in (lambda: other.load(cell), other.contents):
        with pytest.raises(InputError, match=rf"{cell.key}\.json is a cell of another study than study\.json beside"):
            read()


def test_a_cell_that_says_no_study_is_taken(tmp_path: Path) -> None:
    """Earlier versions wrote none."""
    cell = Cell(CONFIG)
    CellFiles(tmp_path).save(cell, {"accuracy": 0.9})
    assert "study" not in read_json(CellFiles(tmp_path).file(cell))
    write_json(tmp_path / "study.json", STUDY)
    assert Store(tmp_path, STUDY).load(cell) == {"accuracy": 0.9}


def test_an_entry_that_is_none_is_as_one_that_is_missing() -> None:
    """As when two study.json are compared: an option that came later does not shut out what was there."""
    assert mark_of({"a": 1, "b": None}) == mark_of({"a": 1}) != mark_of({"a": 2})
    assert mark_of({"a": 1, "b": 2}) == mark_of({"b": 2, "a": 1})
