"""Cells whose concepts are labelled in pictures of Broden+ alone."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import whatwhere as ww
from small_broden import drawn_broden, save
from whatwhere.errors import InputError
from whatwhere.say.studies.compare_cell import CompareWorker
from whatwhere.say.studies.intervene import intervened
from whatwhere.say.studies.speaker import Speaker

NAMES = ("material: metal", "material: glass", "texture: banded", "texture: woven")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return drawn_broden(tmp_path_factory.mktemp("broden"))


@pytest.fixture(scope="module")
def spoken(said, drawn, tmp_path_factory):
    """Every kind, with concepts of Broden+."""
    out = tmp_path_factory.mktemp("spoken")
    study = replace(said.study, concepts={"broden": str(drawn)}, epochs=1)
    return study, out, study.run(out, quiet=True)


@pytest.mark.slow
def test_what_needs_labels_of_the_scenes_is_left_out(said, spoken):
    _, out, result = spoken
    assert [r.kind for r in result.rows] == ["intact", "tuned", "ssb", "ssb-binary", "usb", "learned", "pca", "random"]
    assert result.ceiling is None
    ssb = result.row("middle", "ssb")
    assert ssb.names == NAMES
    assert set(ssb.extras["leakage"]) == {"binarised", "permuted", "dropped", "few n"}
    assert ssb.extras["failures"]
    assert all(r["there"] is None for f in ssb.extras["failures"] for r in f["reasons"])
    assert "labelled there" not in str(result.failures())
    text = " ".join(result.notes)
    assert "fitted on 10 of its training pictures and calibrated on 2 others" in text
    assert "AUiC is measured on 4 pictures of Broden+'s validation split" in text
    assert all("(Broden+)" in " ".join(line) for line in result.table())
    assert "AUiC on Broden+'s validation pictures" in result.conclusion
    assert result.concepts[0].keys() == {"concept", "share", "pictures"}
    assert json.dumps(ww.load_result(out).to_dict()) == json.dumps(result.to_dict())
    assert said.unchanged()


def test_heads_hold_on_other_pictures(spoken):
    inspection = spoken[2].row("middle", "ssb").extras["inspection"]
    assert (inspection["on"], inspection["pictures"]) == ("Broden+", 4)
    assert min(inspection["own"][:2]) > 0.8  # metal is dark, glass is light
    assert spoken[2].row("middle", "intact").extras["inspection"]["own"] == []


@pytest.mark.slow
def test_a_second_call_runs_nothing_and_other_pictures_are_refused(spoken, tmp_path, monkeypatch):
    study, out, result = spoken
    monkeypatch.setattr(CompareWorker, "__call__", lambda *_: pytest.fail("a cell runs"))
    assert study.run(out, quiet=True, fold_only=True).rows == result.rows
    assert study.run(out, quiet=True).rows == result.rows
    moved = shutil.copytree(study.concepts["broden"], tmp_path / "moved")
    same = replace(study, concepts={"broden": str(moved)})
    assert same.run(out, quiet=True, fold_only=True).rows == result.rows
    save(moved / "broden_dataset/opensurfaces/photos-labels/0.png", np.full((48, 64, 3), 22))
    with pytest.raises(InputError, match=r"(?s)holds another study.*concepts: .*broden"):
        replace(study, concepts={"broden": str(moved)}).run(out, quiet=True)


def test_pages_need_no_pictures_of_broden(spoken, tmp_path, no_figures):
    study, out, _ = spoken
    shutil.copytree(out, tmp_path, dirs_exist_ok=True)
    stored = replace(study, concepts=json.loads((tmp_path / "study.json").read_text())["concepts"])
    assert "material: glass" in ww.say.explain(stored, tmp_path, rows=[0]).read_text()
    change = ww.say.intervene(stored, tmp_path, 0, {"material: *": 1})
    assert 0 <= change.changed <= 1
    with pytest.raises(InputError, match=r"material: metal=truth: the scenes have no labels of it"):
        intervened(Speaker(stored, tmp_path), 0, {"material: metal": "truth"})


def test_the_oracle_kind_alone_has_nothing_to_run(said, drawn, tmp_path):
    study = replace(said.study, concepts={"broden": str(drawn), "only": ["material: *"]}, kinds=("truth",))
    result = study.run(tmp_path, quiet=True)
    assert [r.kind for r in result.rows] == ["intact"]
    assert any("the kind truth" in n for n in result.notes)


def test_more_concepts_than_channels_are_refused_before_cells_run(said, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(CompareWorker, "__call__", lambda *_: pytest.fail("a cell runs"))
    from whatwhere.say.studies import broden_concepts

    many = [{"concept": f"part: {i}", "present": 1, "labelled": 2, "share": 0.5, "pictures": 3} for i in range(30)]
    monkeypatch.setattr(broden_concepts, "_counted", lambda broden: many)
    with pytest.raises(InputError, match="24 channels and there are 30 concepts"):
        replace(said.study, concepts={"broden": str(drawn)}).run(tmp_path, quiet=True)
