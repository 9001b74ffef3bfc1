import errno
import os
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from whatwhere.errors import InputError
from whatwhere.report.figures import Line, curve_figure, rendered, save_figure

X, Y = (0.0, 31.0, 77.0, 100.0), (70.0, 69.5, 55.0, 8.0)
LINE = Line("GAP+FC", X, Y, tuple(y - 1 for y in Y), tuple(y + 2 for y in Y))
BARE = Line("shuffle, rows", X, tuple(y - 5 for y in Y))
PAPER = Line("Fan et al. 2020", X, tuple(y + 4 for y in Y))


def figure(*lines: Line, title: str = "a network on data") -> Figure:
    return curve_figure(lines or (LINE, BARE), {"intact": 70.0, "intact (plain)": 60.0}, [PAPER], title=title)


def labels(f: Figure) -> list[str]:
    return [t.get_text() for t in f.legends[0].get_texts()]


def test_everything_is_drawn_where_it_belongs() -> None:
    f = figure()
    drawn = {str(line.get_label()): line for line in f.axes[0].lines}
    for line in (LINE, BARE, PAPER):
        assert tuple(np.asarray(drawn[line.label].get_xdata())) == line.x
        assert tuple(np.asarray(drawn[line.label].get_ydata())) == line.y
    assert list(np.asarray(drawn["intact: 70.0 %"].get_ydata())) == [70.0, 70.0]
    assert set(labels(f)) == {"GAP+FC", "shuffle, rows", "Fan et al. 2020", "intact: 70.0 %", "intact (plain): 60.0 %"}
    assert f.axes[0].get_title(loc="left") == "a network on data"
    assert f.axes[0].get_ylim()[0] == 0


def bars(f: Figure) -> list[tuple[float, float, float]]:
    """(x, low, high) of every error bar."""
    segments = [s for c in f.axes[0].collections for s in c.get_segments()]  # type: ignore[attr-defined]
    return [(s[0][0], s[0][1], s[1][1]) for s in segments]


def test_error_bars_are_the_intervals_and_none_has_no_length() -> None:
    assert bars(figure(BARE)) == []
    assert np.allclose(bars(figure(LINE)), [(x, y - 1, y + 2) for x, y in zip(X, Y, strict=True)])
    odd = Line("odd", X, Y, (70.0, 68.0, -np.inf, 8.0), (70.0, 71.0, np.inf, 8.5))
    assert np.allclose(bars(figure(odd)), [(31.0, 68.0, 71.0), (100.0, 8.0, 8.5)])


def test_the_legend_covers_no_point() -> None:
    f = figure(*(Line(f"line {i}", X, tuple(y - i for y in Y)) for i in range(7)))
    f.draw_without_rendering()
    assert f.legends[0].get_window_extent().y1 <= f.axes[0].get_window_extent().y0
    assert f.axes[0].get_window_extent().height > 0.55 * f.bbox.height


def test_no_two_lines_look_alike() -> None:
    f = figure(*(Line(f"line {i}", X, Y) for i in range(14)))
    drawn = [line for line in f.axes[0].lines if str(line.get_label()).startswith("line")]
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == 14
    assert len({line.get_marker() for line in drawn}) == 14
    assert len({line.get_color() for line in drawn[:7]}) == 7


def test_a_long_label_is_whole() -> None:
    f = curve_figure([LINE], {}, y="divergence from the intact network's class probabilities, in nats,", unit="")
    f.draw_without_rendering()
    box = f.axes[0].yaxis.get_label().get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= f.bbox.y1
    assert box.x0 >= 0


def test_any_number_of_levels() -> None:
    levels = {f"level {i}": 10.0 * i for i in range(5)}
    assert len(labels(curve_figure([LINE], levels))) == 6


@pytest.mark.parametrize("title", ["<script>alert(1)</script> & co", "a$b_c$", r"\frac{", "ein Netz, ü"])
def test_a_title_is_plain_text(title: str) -> None:
    root = ET.fromstring(rendered(figure(title=title), "svg"))
    assert title in [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_same_figure_is_the_same_file() -> None:
    once = figure()
    assert rendered(once, "svg") == rendered(once, "svg") == rendered(figure(), "svg")
    assert rendered(once, "png") == rendered(figure(), "png")
    assert rendered(figure(LINE), "svg") != rendered(once, "svg")


def test_svg_asks_for_nothing_and_runs_nothing() -> None:
    root = ET.fromstring(rendered(figure(), "svg"))
    for element in root.iter():
        assert not element.tag.endswith(("script", "image", "foreignObject"))
        for name, value in element.attrib.items():
            assert not name.endswith("href") or value.startswith("#")
            assert "url(" not in value or "url(#" in value


def test_both_files_open_and_hold_something(tmp_path: Path) -> None:
    save_figure(figure(), tmp_path / "new", "curve")
    with Image.open(tmp_path / "new" / "curve.png") as picture:
        assert picture.size[0] >= 1000
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    ET.parse(tmp_path / "new" / "curve.svg")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["curve.png", "curve.svg"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="Free some space"):
        save_figure(figure(), tmp_path, "curve")
    assert list(tmp_path.iterdir()) == []


def test_no_setting_of_matplotlib_is_left_changed() -> None:
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rendered(figure(), "png")
    assert dict(mpl.rcParams) == before
