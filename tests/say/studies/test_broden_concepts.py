"""Which concepts of Broden+ a study takes, by slow paths."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from small_broden import drawn_broden, save, small_broden, write
from whatwhere.errors import InputError
from whatwhere.say.studies import broden_concepts
from whatwhere.say.studies.broden import load_broden
from whatwhere.say.studies.broden_concepts import (
    BrodenConcepts,
    blank,
    chosen,
    fingerprint_of,
    on_grid,
    parts_of,
    settled_broden,
    splits_of,
)

MATERIALS = ("material: metal", "material: glass")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return drawn_broden(tmp_path_factory.mktemp("broden"))


def concepts(folder: Path, kept: Path, **entries) -> BrodenConcepts:
    spec, given = settled_broden({"broden": str(folder), **entries})
    return BrodenConcepts(spec, kept, given)


def test_a_fingerprint_is_of_pictures_labels_and_lists(tmp_path):
    folder = small_broden(tmp_path / "a")
    first = fingerprint_of(splits_of(folder))
    shutil.copytree(folder, tmp_path / "b")
    assert fingerprint_of(splits_of(tmp_path / "b")) == first
    changes = {
        "picture": lambda f: save(f / "broden_dataset/opensurfaces/photos/4.jpg", np.full((6, 8, 3), 5)),
        "labels": lambda f: save(f / "broden_dataset/opensurfaces/photos-labels/4.png", np.full((6, 8, 3), 22)),
        "records": lambda f: write(f / "meta_file/broden_os_train.json", '{"dataset": "os", "file_index": 0}\n'),
        "names": lambda f: write(f / "meta_file/material.csv", "label,name\n0,-\n1,steel\n2,glass\n"),
    }
    for name, change in changes.items():
        other = shutil.copytree(folder, tmp_path / name)
        change(other)
        assert fingerprint_of(splits_of(other)) != first, name


def test_every_fifth_of_each_data_set_is_held_out(drawn):
    broden = load_broden(drawn)
    fit, held = parts_of(broden)
    assert sorted([*fit, *held]) == list(range(len(broden)))
    places = Counter()
    for row, record in enumerate(broden.records):
        places[record.dataset] += 1
        assert (row in held) == (places[record.dataset] % 5 == 0)
    assert {broden.records[row].dataset for row in held} == {"os", "dtd"}


def test_a_grid_reads_the_middles():
    values = torch.from_numpy(np.random.default_rng(0).integers(0, 9, (7, 10)))
    found = on_grid({"part": values}, (3, 25))["part"]
    for r, c in np.ndindex(3, 25):
        assert found[r, c] == values[int((r + 0.5) * 7 / 3), int((c + 0.5) * 10 / 25)]
    assert blank((3, 25)).shape == (3, 3, 25)


def test_counts_by_loops(tmp_path, monkeypatch):
    monkeypatch.setattr(broden_concepts, "GRID", (6, 8))  # of the pictures
    folder = small_broden(tmp_path)
    counts = {c["concept"]: c for c in concepts(folder, tmp_path).counts}
    broden = load_broden(folder)
    maps = [broden.concepts()(*broden[row]) for row in range(len(broden))]
    for k, name in enumerate(broden.concepts().names):
        present, labelled = (sum(int(f(m[k]).sum()) for m in maps) for f in (lambda m: m == 1, lambda m: m >= 0))
        pictures = sum(bool((m[k] == 1).any()) for m in maps)
        found = counts[name]
        assert (found["present"], found["labelled"], found["pictures"]) == (present, labelled, pictures)


def test_concepts_that_cannot_be_fitted_are_left_out(tmp_path):
    source = concepts(small_broden(tmp_path), tmp_path)
    assert source.names == ("part: wheel", "part: window", *MATERIALS)
    assert source.left_out == ["part: roof", "texture: banded", "texture: woven"]
    assert [c["concept"] for c in source.chosen_counts] == list(source.names)
    assert concepts(tmp_path, tmp_path, only=["material: *"]).names == MATERIALS


def count(name, present, labelled, pictures):
    return {
        "concept": name,
        "present": present,
        "labelled": labelled,
        "pictures": pictures,
        "share": present / labelled if labelled else None,
    }


def test_a_choice_by_limits():
    counts = [
        count("a", 1, 10, 1),
        count("b", 6, 10, 3),
        count("c", 5, 10, 2),
        count("d", 9, 9, 9),
        count("e", 0, 0, 0),
    ]
    assert chosen({}, counts) == ("a", "b", "c")
    assert chosen({"select": {"pictures": 2}}, counts) == ("b", "c")
    assert chosen({"select": {"share": 0.55}}, counts) == ("b",)
    assert chosen({"select": {"most": 2}}, counts) == ("b", "c")
    assert chosen({"only": ["a", "c"], "select": {"most": 1}}, counts) == ("c",)
    for spec, message in (
        ({"select": {"bits": 0.1}}, "have no classes of the task; give pictures"),
        ({"select": {"pictures": 4}}, r"leave none of 5 concepts of Broden\+"),
        ({"only": ["f"]}, "names='f' matches nothing"),
        ({"select": {"rows": 4}}, "select='rows' matches nothing"),
    ):
        with pytest.raises(InputError, match=message):
            chosen(spec, counts)


def test_what_a_study_records(drawn):
    spec, folder = settled_broden({"broden": str(drawn), "only": ["material: *"]})
    assert spec == {"broden": fingerprint_of(splits_of(drawn)), "only": ["material: *"]}
    assert folder == str(drawn)
    assert settled_broden(spec) == (spec, None)  # as study.json says it
    with pytest.raises(InputError, match=r"give their folder, as broden/FOLDER"):
        _ = BrodenConcepts(spec, drawn / "none", None).names
    with pytest.raises(InputError, match=r"broden stands alone: .* than merged, positions"):
        settled_broden({"broden": str(drawn), "merged": "cityscapes", "positions": True})
    with pytest.raises(InputError, match=r"there is no such folder; give that of Broden\+"):
        settled_broden({"broden": str(drawn / "none")})


def test_counts_are_kept_as_plain_values(drawn, tmp_path):
    source = concepts(drawn, tmp_path)
    names = source.names
    kept = json.loads((tmp_path / f"broden-counts-{source.spec['broden']}.json").read_text())
    assert [c["concept"] for c in kept if 0 < c["present"] < c["labelled"]] == list(names)
    assert set(names) == {*MATERIALS, "texture: banded", "texture: woven"}
