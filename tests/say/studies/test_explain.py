"""Reasons, regions, and pages that are safe to open."""

import shutil
from dataclasses import replace

import pytest
import torch

from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.say.studies.explain import explain, largest_region, reasons_of
from whatwhere.say.studies.intervene import intervene
from whatwhere.say.studies.measure import Cells
from whatwhere.say.studies.speaker import Speaker

SITE, ROW = "middle", 3


def test_reasons_are_falls_when_a_concept_is_dropped(speaker):
    lines = reasons_of(speaker, ROW)
    own = speaker.said.maps[ROW : ROW + 1]
    before = speaker.rested(own)[0]
    said, classes, names = before.argmax(0), speaker.scenes.classes, speaker.layer.names
    for line in lines:
        c = classes.index(line["predicted"])
        falls = {}
        for k, name in enumerate(names):
            maps = own.clone()
            maps[:, k] = speaker.said.maps[:, k].mean()
            falls[name] = float((before[c] - speaker.rested(maps)[0, c])[said == c].mean())
        top = sorted((n for n in names if falls[n] > 0), key=lambda n: -falls[n])[:3]
        expected = "; ".join(f"{n} ({falls[n]:+.2f})" for n in top) or "no single concept"
        assert line["because of"] == expected
        assert line["of the picture"] == f"{100 * float((said == c).float().mean()):.0f} %"


def test_the_largest_region_of_a_failure():
    labels, said = torch.zeros(3, 6, 8, dtype=torch.int64), torch.zeros(3, 6, 8, dtype=torch.int64)
    said[0, 0, 0] = said[1, 1:4, 2:4] = said[1, 5, 7] = 1
    said[2, 0:2, 0] = 1
    labels[2, 0, 0] = 2
    found = largest_region(Cells(torch.nn.functional.one_hot(said, 3).movedim(-1, 1).float(), labels, None), 0, 1)
    assert found == (1, (slice(1, 4), slice(2, 4)))
    assert largest_region(Cells(torch.zeros(1, 3, 6, 8), labels[:1], None), 0, 2) is None


def test_pages_write_and_leave_the_network_alone(said, tmp_path):
    shutil.copytree(said.out, tmp_path, dirs_exist_ok=True)
    written = explain(said.study, tmp_path, SITE, rows=[ROW])
    assert written == tmp_path / "explain" / "index.html"
    text = written.read_text()
    assert "What it says, and why" in text
    shown = f"Reasons are of 1 of 8 test pictures; {len(Speaker(said.study, tmp_path).result['failures'])} failures are"
    assert f"{shown} counted on all 8, in 8 groups." in text
    with pytest.raises(InputError, match="n=0: give a whole number"):
        explain(said.study, tmp_path, SITE, n=0)
    assert "part: crown" in text
    assert "concepts at middle on 8 test pictures" in text
    assert "No two classes are confused often enough" in text, "below 50 cells each"
    assert {f.stem for f in written.parent.glob("*.png")} >= {"scenes", "concepts"}
    change = intervene(said.study, tmp_path, ROW, {"place: *": "truth"}, SITE)
    share = f"The predicted class changes for {100 * change.changed:.1f} % of the picture."
    text = (tmp_path / "intervene" / "index.html").read_text()
    assert share in text
    assert "Done to 8 test pictures in 8 groups, it changes " in text
    assert change.conclusion in str(change)
    assert said.unchanged()


def test_names_are_escaped(said, tmp_path, no_figures):
    """Classes and concepts as a folder's classes.json may name them."""
    evil = "<script>alert('x')</script>&"
    classes = tuple(f"{evil}{c}" for c in said.scenes.classes)
    splits = {n: SceneSplit(n, s.pictures, s.maps, classes) for n, s in said.scenes.splits.items()}
    concepts = {"merged": {f"{evil}m": [classes[3], classes[4]], f"{evil}n": [classes[0], classes[1]]}}
    study = replace(said.study, data=Scenes(evil, splits), concepts=concepts, kinds=("ssb",))
    result = study.run(tmp_path, quiet=True)
    explain(study, tmp_path, rows=[0])
    intervene(study, tmp_path, 0, {f"{evil}m": 0})
    result.save(tmp_path)
    for folder in (tmp_path, tmp_path / "explain", tmp_path / "intervene"):
        text = (folder / "index.html").read_text()
        assert "<script" not in text.replace('<script type="application/json" id="charts">', "").replace(
            "<script>\n", ""
        )
        assert "&lt;script&gt;" in text
    assert (
        '<a href="explain/index.html">Examples, concept maps and reasons</a>' in (tmp_path / "index.html").read_text()
    )
