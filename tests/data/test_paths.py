import os
import pickle
from pathlib import Path

import pytest

from whatwhere.data.paths import Paths

SOME = [Path("a/b/1.png"), Path("a/ü.JPEG"), Path("/x/1.png"), Path("a/b/2.png"), Path("here.png")]


def test_paths_come_back_as_they_were() -> None:
    packed = Paths(SOME)
    assert list(packed) == SOME
    assert [packed[i] for i in range(-5, 5)] == SOME + SOME
    assert packed[1:4:2] == SOME[1:4:2]
    assert len(packed) == 5
    assert list(Paths()) == []
    with pytest.raises(IndexError):
        packed[5]


def test_names_that_are_no_text_come_back() -> None:
    odd = Path(os.fsdecode(b"folder/\xff\xfe.png"))
    assert list(Paths([odd])) == [odd]


def test_some_after_the_other() -> None:
    assert list(Paths.joined([Paths(SOME), [], SOME[2:], Paths(SOME[:1])])) == SOME + SOME[2:] + SOME[:1]
    assert list(Paths.joined([])) == []


def test_a_path_takes_little_more_than_its_name() -> None:
    paths = [Path(f"/data/train/n{i % 10:08d}/n{i % 10:08d}_{i:06d}.JPEG") for i in range(5000)]
    names = sum(len(path.name) for path in paths)
    assert len(pickle.dumps(Paths(paths))) < names + 13 * 5000
