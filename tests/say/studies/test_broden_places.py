"""Places in pictures of Broden+, by slow paths."""

from pathlib import Path

import numpy as np
import pytest
import torch

import whatwhere as ww
from small_broden import drawn_broden, small_broden
from small_segmenter import small_segmenter
from whatwhere.say.heads import at_cells, fit_heads, maps_at, shares_of
from whatwhere.say.layer import Bottleneck
from whatwhere.say.studies.broden_concepts import (
    BrodenConcepts,
    blank,
    on_grid,
    settled_broden,
)
from whatwhere.say.studies.broden_places import BrodenSite, drawn_at, fitting
from whatwhere.say.studies.features import held_at

SCENE = (32, 48)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return drawn_broden(tmp_path_factory.mktemp("broden"))


def concepts(folder: Path, kept: Path, **entries) -> BrodenConcepts:
    spec, given = settled_broden({"broden": str(folder), **entries})
    return BrodenConcepts(spec, kept, given)


def site(source: BrodenConcepts) -> BrodenSite:
    return BrodenSite(ww.Network(small_segmenter(4)), "middle", SCENE, source)


@pytest.mark.parametrize(
    ("size", "scene", "expected"),
    [
        ((48, 64), (32, 48), (32, 48)),  # 42.7, to a multiple of 16
        ((480, 640), (1024, 2048), (1024, 1376)),
        ((500, 375), (360, 480), (480, 360)),
        ((6, 8), (33, 47), (33, 44)),
        ((3000, 300), (32, 48), (96, 16)),  # at most twice the scenes' long side, and no side below 16
    ],
)
def test_pictures_fit_the_scenes(size, scene, expected):
    assert fitting(size, scene) == expected


def test_places_are_drawn_where_something_is_labelled():
    rng = np.random.default_rng(0)
    shares = torch.from_numpy(np.where(rng.random((200, 5)) < 0.7, -1.0, rng.random((200, 5)) < 0.1)).float()
    shares[:, 4] = -1
    shares[17, 4] = 0.2  # a rare concept
    draw = lambda every, n=6: drawn_at(shares, n, torch.Generator().manual_seed(0), every=every).tolist()  # noqa: E731
    some, more = draw(False), draw(True)
    assert len(some) == 6
    assert set(some) <= set(more)
    assert all(bool((shares[p] >= 0).any()) for p in more)
    assert all(bool((shares[more, k] > 0).any()) for k in range(5))
    assert 17 in more
    assert draw(False, 10**6) == (shares >= 0).any(1).nonzero()[:, 0].tolist()
    assert drawn_at(shares * 0 - 1, 6, torch.Generator(), every=True).tolist() == []


def test_places_hold_the_features_and_the_labels_of_their_cells(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("whatwhere.say.studies.broden_places.SAMPLE", 10**6)  # all of them
    here = site(concepts(drawn, tmp_path, only=["material: *"]))
    found = here.places("calibration")
    split, rows = here.concepts.rows("calibration")
    at = 0
    for row in rows:
        picture, labels = here.concepts.splits[split][row]
        x = torch.nn.functional.interpolate(picture[None].float(), size=SCENE, mode="bilinear", antialias=True)
        held = held_at(here.net.module, "middle", here.net.prepared(x.round().clamp(0, 255).byte()))[0]
        grid = (8 * 16, 12 * 16)  # 16 points a cell, since 8 cells must have 128
        maps = here.concepts.source(split)(blank(grid), on_grid(labels, grid))[None]
        shares, centres = shares_of(maps, (8, 12))[0], at_cells(maps, (8, 12))[0]
        for r, c in np.ndindex(8, 12):
            if bool((shares[:, r, c] >= 0).any()):
                torch.testing.assert_close(found.features[at], held[:, r, c], atol=1e-3, rtol=1e-3)
                torch.testing.assert_close(found.shares[at], shares[:, r, c], atol=1e-3, rtol=0)
                assert torch.equal(found.centres[at], centres[:, r, c])
                at += 1
    assert at == len(found)
    assert found.pictures == 1  # of the photographs; the textures have no material


def test_places_are_kept_and_other_concepts_are_others(drawn, tmp_path, monkeypatch):
    first = site(concepts(drawn, tmp_path, only=["material: *"])).places("fit")
    monkeypatch.setattr(BrodenSite, "_drawn", lambda self, part: pytest.fail("drawn again"))
    spec, _ = settled_broden({"broden": str(drawn), "only": ["material: *"]})
    again = site(BrodenConcepts(spec, tmp_path, None)).places("fit")  # without the folder
    assert torch.equal(first.features, again.features)
    with pytest.raises(pytest.fail.Exception):
        site(concepts(drawn, tmp_path)).places("fit")


def test_heads_learn_what_the_pictures_show(drawn, tmp_path):
    here = site(concepts(drawn, tmp_path, only=["material: *"]))
    layer = Bottleneck(24, 2, names=here.concepts.names)
    fit_heads(layer, here.heads.fit, here.heads.calibration)
    held = here.places("validation")
    said, sure = maps_at(layer, held.features) > 0.5, held.centres >= 0
    assert bool(sure.any())
    assert float((said == (held.centres == 1))[sure].float().mean()) > 0.9
    about = here.about
    assert (about["fit pictures"], about["calibration pictures"], about["validation pictures"]) == (5, 1, 2)
    assert about["places"] == len(here.places("fit")) + len(here.places("calibration"))


def test_too_few_pictures_hold_none_out(tmp_path):
    here = site(concepts(small_broden(tmp_path), tmp_path))
    assert here.heads.calibration is here.heads.fit or torch.equal(
        here.heads.calibration.features, here.heads.fit.features
    )
    assert (here.about["calibration pictures"], here.about["validation pictures"]) == (0, 0)
