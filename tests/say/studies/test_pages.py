"""Explain and intervene: what is overwritten, what is said then, and pages that are safe to open."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from whatwhere.bottleneck.layer import layer_of, overwriting
from whatwhere.data.scenes import Scenes, SceneSplit
from whatwhere.errors import InputError
from whatwhere.report import page
from whatwhere.studies.bottleneck.explain import (
    Speaker,
    checked_rows,
    coloured,
    explain,
    largest_region,
    reasons_of,
    rested,
)
from whatwhere.studies.bottleneck.intervene import intervene, intervened
from whatwhere.studies.bottleneck.measure import Cells
from whatwhere.studies.bottleneck.study import bottleneck_study, prepared

SITE, ROW = "middle", 3


@pytest.fixture(scope="module")
def setting(said):
    return prepared(said.net, said.scenes, said.out, concepts=said.concepts, recipe=said.recipe)


@pytest.fixture(scope="module")
def speaker(setting):
    return Speaker(setting, SITE)


def test_what_is_said_rests_on_the_maps(speaker):
    found = rested(speaker, speaker.said.maps[:2])
    assert torch.equal(found.argmax(1), speaker.said.said[:2])
    torch.testing.assert_close(found, speaker.said.scores[:2].log_softmax(1), atol=1e-4, rtol=1e-4)


def test_the_value_it_has_changes_nothing(speaker):
    constant = speaker.said.maps[ROW].clone()
    change = intervened(speaker, ROW, {})
    assert change.changed == 0
    assert torch.equal(change.edited, constant)
    tiny = replace(speaker)
    tiny.__dict__["said"] = replace(speaker.said, maps=speaker.said.maps.clone())
    tiny.said.maps[ROW, 2] = 0.25
    same = intervened(tiny, ROW, {speaker.layer.names[2]: 0.25})
    assert same.changed == 0
    assert torch.equal(same.maps, same.edited)


def test_a_concept_is_overwritten_as_by_hand(speaker):
    name = "place: lower"
    k = speaker.layer.names.index(name)
    change = intervened(speaker, ROW, {name: 1.0})
    picture = speaker.setting.bench.net.preprocessing.normalise(speaker.test.split[ROW][0][None])
    with torch.no_grad(), overwriting(layer_of(speaker.module), lambda m: m.index_fill(1, torch.tensor([k]), 1.0)):
        said = torch.nn.functional.interpolate(speaker.module(picture), size=(8, 12), mode="nearest-exact").argmax(1)[0]
    assert (said == change.after).float().mean() > 0.97  # features are kept in half precision
    assert change.changed > 0


def test_truth_is_the_labels_where_there_are_any(speaker):
    change = intervened(speaker, ROW, {"*": "truth"})
    given = speaker.test.shares_at(torch.tensor([ROW]))[0]
    for k in range(len(given)):
        for y, x in np.ndindex(8, 12):
            expected = change.maps[k, y, x] if given[k, y, x] < 0 else given[k, y, x]
            assert change.edited[k, y, x] == expected
    assert (given < 0).any()


def test_only_in_the_box(speaker):
    change = intervened(speaker, ROW, {"part: *": 0}, box=(0.5, 1, 0, 0.25))
    touched = change.edited != change.maps
    assert touched[:, :4].sum() == touched[:, :, 3:].sum() == 0
    parts = [n.startswith("part:") for n in speaker.layer.names]
    assert touched[:, 4:, :3].flatten(1).any(1).tolist() == parts
    assert bool((change.edited[parts][:, 4:, :3] == 0).all())


@pytest.mark.parametrize(
    ("row", "values", "box", "message"),
    [
        (99, {"part: wall": 0}, None, "no test picture 99"),
        (0, {"part: wal": 0}, None, "Did you mean 'part: wall'"),
        (0, {"part: wall": 1.5}, None, "from 0"),
        (0, {"part: wall": float("nan")}, None, "from 0"),
        (0, {"part: wall": "true"}, None, "'truth'"),
        (0, {"part: wall": 0}, (0.5, 0.5, 0, 1), "top, bottom"),
    ],
)
def test_what_cannot_be_is_refused(speaker, row, values, box, message):
    with pytest.raises(InputError, match=message):
        intervened(speaker, row, values, box)


def test_reasons_are_falls_when_a_concept_is_dropped(speaker):
    lines = reasons_of(speaker, ROW)
    own = speaker.said.maps[ROW : ROW + 1]
    before = rested(speaker, own)[0]
    said, classes, names = before.argmax(0), speaker.setting.bench.scenes.classes, speaker.layer.names
    for line in lines:
        c = classes.index(line["said"])
        falls = {}
        for k, name in enumerate(names):
            maps = own.clone()
            maps[:, k] = speaker.said.maps[:, k].mean()
            falls[name] = float((before[c] - rested(speaker, maps)[0, c])[said == c].mean())
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


def test_colours_of_classes():
    found = coloured(torch.tensor([[0, 1, 255]]), [(1, 2, 3)])
    assert found.tolist() == [[[1, 2, 3], [128, 64, 128], [255, 255, 255]]]


def test_rows_are_checked():
    assert checked_rows([2, 0, 2], 3) == [2, 0]
    for wrong in ([], [3], [-1]):
        with pytest.raises(InputError, match="from 0 to 2"):
            checked_rows(wrong, 3)


def test_pages_write_and_leave_the_network_alone(said, setting, tmp_path):
    written = explain(setting, SITE, tmp_path / "explain", rows=[ROW])
    text = written.read_text()
    assert "What it says, and why" in text
    assert "part: crown" in text
    assert {f.stem for f in written.parent.glob("*.png")} >= {"scenes", "concepts"}
    change = intervene(setting, SITE, ROW, {"place: *": "truth"}, tmp_path / "i")
    assert (
        f"{100 * change.changed:.1f} % of the picture is said otherwise" in (tmp_path / "i" / "index.html").read_text()
    )
    assert said.unchanged()


def test_a_bottleneck_that_is_not_trained_is_told(said, setting, tmp_path):
    with pytest.raises(InputError, match="bottleneck evaluate"):
        explain(setting, "head", tmp_path)


def test_names_are_escaped(said, tmp_path, monkeypatch):
    """Classes and concepts as a folder's classes.json may name them."""
    monkeypatch.setattr(page, "save_figure", lambda *_: None)  # figures take seconds
    monkeypatch.setattr(page, "_inline", lambda figure: "")
    evil = "<script>alert('x')</script>&"
    classes = tuple(f"{evil}{c}" for c in said.scenes.classes)
    splits = {n: SceneSplit(n, s.pictures, s.maps, classes) for n, s in said.scenes.splits.items()}
    scenes = Scenes(evil, splits)
    concepts = {"merged": {f"{evil}m": [classes[3], classes[4]], f"{evil}n": [classes[0], classes[1]]}}
    options = {"concepts": concepts, "recipe": said.recipe}
    result = bottleneck_study(said.net, scenes, sites=[SITE], out=tmp_path, kinds=["ssb"], quiet=True, **options)
    setting = prepared(said.net, scenes, tmp_path, **options)
    explain(setting, SITE, tmp_path / "explain", rows=[0])
    intervene(setting, SITE, 0, {f"{evil}m": 0}, tmp_path / "intervene")
    result.save(tmp_path)
    for folder in (tmp_path, tmp_path / "explain", tmp_path / "intervene"):
        text = (folder / "index.html").read_text()
        assert "<script" not in text
        assert "&lt;script&gt;" in text
    assert (
        '<a href="explain/index.html">Examples, concept maps and reasons</a>' in (tmp_path / "index.html").read_text()
    )
