"""Pictures of a page: their values come back from the file, and they never take more bytes than there is room for."""

import base64
import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from whatwhere.report.gallery import SHADES, SIDE, Gallery, Picture, fitting
from whatwhere.report.page import LARGEST, Report, as_html

EVIL = "</figcaption><script>alert(1)</script>"


def opened(tile):
    return Image.open(io.BytesIO(base64.b64decode(tile["source"].partition(",")[2])))


def tiles(gallery, room=10**6):
    return [tile for _, group in gallery.plain(room)["groups"] for tile in group]


def test_a_maps_shades_are_its_values():
    values = np.random.default_rng(0).normal(size=(5, 7))
    (tile,) = tiles(Gallery("g", "t", [Picture(values, "c")]))
    shown = np.asarray(opened(tile).convert("RGB"))
    scale = mpl.colormaps["cividis"](np.linspace(0, 1, SHADES))[:, :3]
    for y, x in np.ndindex(5, 7):  # the nearest shade of the scale, looked up one by one
        share = (values[y, x] - values.min()) / (values.max() - values.min())
        nearest = min(range(SHADES), key=lambda i: abs(i / (SHADES - 1) - share))
        assert np.abs(shown[y, x] / 255 - scale[nearest]).max() < 1 / 255
    assert tile["shades"] == f"{values.min():.3g} dark, {values.max():.3g} light"
    assert tile["blocky"]


def test_limits_hold_for_all_and_what_is_missing_is_transparent():
    gallery = Gallery(
        "g", "t", [Picture([[0.0, np.nan], [2.0, -1.0]], "c"), Picture(np.full((2, 2), np.nan), "d")], limits=(0, 1)
    )
    first, second = tiles(gallery)
    alpha = np.asarray(opened(first).convert("RGBA"))[..., 3]
    assert alpha.tolist() == [[255, 0], [255, 255]]
    shades = np.asarray(opened(first))
    assert [shades[0, 0], shades[1, 0], shades[1, 1]] == [0, SHADES - 1, 0]  # beyond the ends: the ends
    assert np.asarray(opened(second).convert("RGBA"))[..., 3].max() == 0
    assert second["shades"] == "nothing was measured"
    assert tiles(Gallery("g", "t", [Picture(np.ones((2, 2)), "c")]))[0]["shades"] == "1 everywhere"


def test_label_maps_keep_their_colours_and_photographs_look_alike():
    labels = np.array([[[1, 2, 3], [250, 0, 9]]], np.uint8).repeat(300, 0).repeat(200, 1)
    photograph = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8).repeat(64, 0).repeat(64, 1)
    photograph = np.clip(photograph + np.random.default_rng(1).normal(0, 9, photograph.shape), 0, 255).astype(np.uint8)
    first, second = tiles(Gallery("g", "t", [Picture(labels, "c"), Picture(photograph, "d")]))
    assert {c for _, c in opened(first).convert("RGB").getcolors()} == {(1, 2, 3), (250, 0, 9)}
    assert max(opened(first).size) == SIDE
    smaller = photograph.reshape(128, 2, 128, 2, 3).mean((1, 3))  # boxes of 2 x 2
    assert np.abs(np.asarray(opened(second).convert("RGB")) - smaller).mean() < 8
    assert first["shades"] == second["shades"] == ""


@pytest.mark.parametrize("room", [0, 2_000, 20_000, 10**6])
def test_no_more_bytes_than_there_is_room_for_and_what_is_missing_is_said(room):
    rng = np.random.default_rng(0)
    gallery = Gallery("g", "t", [Picture(rng.random((32, 32)), f"p{i}", f"group {i // 4}") for i in range(12)])
    shown = gallery.plain(room)
    kept = [t["caption"] for _, group in shown["groups"] for t in group]
    assert shown["bytes"] <= room
    assert kept == [f"p{i}" for i in range(len(kept))], "the first ones stay"
    assert shown["left_out"].startswith(f"{12 - len(kept)} of 12 pictures") or len(kept) == 12
    shared = fitting([gallery, gallery, gallery], room)
    assert sum(s["bytes"] for s in shared) <= room
    assert len({len(s["groups"]) for s in shared}) <= 2


def test_a_page_of_too_many_pictures_keeps_its_size_and_escapes_captions():
    noise = np.random.default_rng(0).random((SIDE, SIDE))
    galleries = [
        Gallery(f"g{i}", EVIL, [Picture(noise, EVIL, EVIL)] * 40, EVIL, legend={EVIL: "#000000"}) for i in range(4)
    ]
    text = as_html(Report("t", "l", galleries=galleries))
    assert 0.8 * LARGEST < len(text.encode()) <= LARGEST
    assert "<script>alert" not in text
    assert text.count("are left out") == 4
    assert "0 dark, 1 light" in as_html(Report("t", "l", galleries=[Gallery("g", "t", [Picture([[0, 1]], "c")])]))
    assert "0 is dark, 2 is light" in as_html(Report("t", "l", galleries=[Gallery("g", "t", [], limits=(0, 2))]))
