"""The page in a real browser, where there is one: drawn without a network, curves switched, values shown and saved."""

import csv
import io
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_audit import EVIL, audit
from whatwhere.audits.compared import comparison_of
from whatwhere.audits.result import AuditResult
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.report.gallery import Gallery, Picture
from whatwhere.report.page import LARGEST, Report, Table, write_report

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = audit().to_dict()
    plain["sites"] = [*plain["sites"], {"name": f"{EVIL}\nnext", "depth_share": 0.1, "kind": "conv", "shape": []}]
    return AuditResult.from_dict(plain).save(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, file: Path) -> Iterator[Any]:
    """A page without a network, and what it complains of."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.said = []
    page.on("console", lambda m: page.said.append(m.text))
    page.on("pageerror", lambda e: page.said.append(str(e)))
    page.on("dialog", lambda d: page.said.append("a dialog") or d.dismiss())
    page.goto(file.as_uri())
    page.wait_for_selector("#chart-2 svg")
    yield page
    context.close()


@pytest.fixture(scope="module")
def page(browser: Any, file: Path) -> Iterator[Any]:
    with opened(browser, file) as page:
        yield page


def test_every_chart_is_drawn_and_nothing_is_complained_of(page: Any) -> None:
    assert page.locator("figure.chart").count() == 3
    assert page.locator("#chart-0 .drawn > svg").count() == 3  # the strip's three quantities
    assert page.said == []
    assert "</script>next" in page.locator("#chart-0").inner_text()  # the end of a place's name, as text


def test_a_curve_can_be_switched_off_and_on(page: Any) -> None:
    lines = page.locator("#chart-1 svg path[stroke]")
    before = lines.count()
    box = page.locator("#chart-1 .legend input").first
    box.uncheck()
    assert lines.count() < before
    box.check()
    assert lines.count() == before


def test_controls_are_named_and_drawn_dashed(page: Any) -> None:
    assert "H, untrained (control)" in page.locator("#chart-2 .legend").inner_text()
    assert page.locator("#chart-2 svg [stroke-dasharray='4 3']").count() > 0


def test_a_value_stands_under_the_pointer(page: Any) -> None:
    dot = page.locator("#chart-1 svg circle").first
    dot.hover(force=True)  # where points lie on each other
    page.wait_for_timeout(100)
    tip = page.locator("#chart-1 svg text").all_text_contents()
    assert any("[" in text and "]" in text for text in tip)


def test_values_and_drawings_are_saved(page: Any) -> None:
    with page.expect_download() as saved:
        page.locator("#chart-1 button", has_text="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text())))
    assert saved.value.suggested_filename == "need.csv"
    assert len(rows) == 6
    assert {row["series"] for row in rows} == {"GAP+FC", "shuffle, per-channel"}
    with page.expect_download() as saved:
        page.locator("#chart-0 button", has_text="SVG").click()
    text = Path(saved.value.path()).read_text()
    assert text.startswith("<svg xmlns=")
    assert text.count("<svg") == 4  # the strip's three in one


def test_a_table_is_sorted_by_a_click_on_its_head(page: Any) -> None:
    table = page.locator("table.sortable").first
    page.locator("details").first.locator("summary").click()
    shares = table.locator("tbody tr td:nth-child(2)")
    table.locator("thead th button", has_text="share %").click()
    up = [float(t) for t in shares.all_inner_texts()]
    table.locator("thead th button", has_text="share %").click()
    down = [float(t) for t in shares.all_inner_texts()]
    assert up == sorted(up)
    assert down == sorted(up, reverse=True)


def test_no_table_of_an_audit_is_cut_on_a_desktop(browser: Any, tmp_path: Path) -> None:
    """As wide as the gallery's widest, with a place's whole name and every field asked."""
    plain = audit().to_dict()
    plain["sites"] = [{"name": "features.12.expand1x1", "depth_share": 1.0, "kind": "conv", "shape": []}]
    for point in plain["parts"]["need"]["points"]:
        point["site"] = "features.12.expand1x1"
    rows = [{**plain["parts"]["hold"]["rows"][0], "site": "features.12.expand1x1", "target": t} for t in "HVG"]
    plain["parts"]["hold"]["rows"] = rows
    with opened(browser, AuditResult.from_dict(plain).save(tmp_path)) as page:
        page.locator("details").evaluate_all("every => every.forEach(e => e.open = true)")
        assert "[48.00, 52.00]" in page.locator("table").first.inner_text()
        assert (
            page.locator(".scroll").evaluate_all("every => every.filter(e => e.scrollWidth > e.clientWidth).length")
            == 0
        )


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (3840, "dark")])
def test_it_fits_a_phone_and_a_wall(browser: Any, file: Path, width: int, scheme: str) -> None:
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("#chart-2 svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    context.close()


def dense(label: str, panel: str) -> Line:
    """A curve of 101 points, one of which is missing."""
    x = tuple(i / 100 for i in range(101))
    return Line(label, x, (math.nan, *x[1:]), panel=panel)


@pytest.fixture(scope="module")
def views_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds of charts and pictures, with names as files and classes may have them: 1,000 classes, one site, NaN."""
    panels = [Line(EVIL, (0.0,), (1.0,), (0.5,), (1.5,), panel=p) for p in ("left", f"right\n{EVIL}")]
    curves = Chart("panels", EVIL, "x", "y", [*panels, dense("dense", "left")], {}, ["dense"])
    here = Chart(
        "here", "One site", "", "SPC", [Line("network", (0.0,), (0.5,), (0.25,), (0.75,))], ticks=[f"{EVIL}\n"]
    )
    classes = tuple(map(float, range(1000)))
    many = [Line("found", classes, classes, classes, classes), Line("published", (1.0,), (700.0,))]
    names = [f"{EVIL} {i}" for i in range(1000)]
    points = Chart("points", "Classes", "%", "%", many, {"chance": 500.0}, ["published"], (), names, joined=False)
    maps = [Picture(np.eye(8) + i, f"picture\n{EVIL} {i}", f"group {i // 2}") for i in range(4)]
    nothing = Picture(np.full((3, 3), np.nan), "nothing")
    gallery = Gallery("maps", "Maps", [*maps, nothing], legend={EVIL: "#804080"})
    table = Table("all classes", [{"class": n, "IoU": i} for i, n in enumerate(names)])
    report = Report(EVIL, "lead", tables=[table], charts=[curves, here, points], galleries=[gallery])
    return write_report(tmp_path_factory.mktemp("views"), report)


@pytest.fixture(scope="module")
def views(browser: Any, views_file: Path) -> Iterator[Any]:
    with opened(browser, views_file) as page:
        yield page
        assert page.said == []


def test_each_panel_is_drawn_and_dense_curves_have_no_markers(views: Any) -> None:
    assert views.said == []
    assert views.locator("#chart-0 .drawn > svg").count() == 2
    assert views.locator("#chart-0 svg circle").count() == 2, "of the curves of one point, none of 101"
    assert views.locator("#chart-0 .legend label").count() == 2, "the legend once"
    assert EVIL in views.locator("#chart-0 .legend").inner_text()
    assert views.locator("#chart-1 .legend").is_hidden(), "one curve is not switched off"


def test_a_switch_holds_for_all_panels(views: Any) -> None:
    box = views.locator("#chart-0 .legend input").first
    box.focus()
    views.keyboard.press("Space")
    assert views.locator("#chart-0 svg circle").count() == 0
    views.keyboard.press("Space")
    assert views.locator("#chart-0 svg circle").count() == 2


def test_points_show_value_and_interval_under_the_pointer(views: Any) -> None:
    assert views.locator("#chart-2 svg circle").count() == 1001
    views.locator("#chart-2 svg circle").nth(3).hover(force=True)
    views.wait_for_timeout(100)
    tip = "".join(views.locator("#chart-2 svg [aria-label], #chart-2 svg g").last.all_text_contents())
    assert "[3.00, 3.00]" in tip


def test_values_of_panels_are_saved_with_names_of_several_lines(views: Any) -> None:
    with views.expect_download() as saved:
        views.locator("#chart-0 button", has_text="CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(), newline="")))
    assert {row["panel"] for row in rows} == {"left", f"right\n{EVIL}"}
    assert [row["y"] for row in rows if row["series"] == "dense"][:2] == ["", "0.01"]
    with views.expect_download() as saved:
        views.locator("#chart-0 button", has_text="SVG").click()
    assert Path(saved.value.path()).read_text().count("<svg") == 3, "both panels in one"


def test_pictures_are_enlarged_by_key_one_after_the_other_and_saved(views: Any) -> None:
    tiles = views.locator(".tile button")
    assert tiles.count() == 5
    tiles.first.focus()
    views.keyboard.press("Enter")
    dialog = views.locator("dialog[open]")
    assert f"group 0: picture {EVIL} 0" in " ".join(dialog.inner_text().split())
    views.keyboard.press("ArrowLeft")
    assert "nothing was measured" in dialog.inner_text()
    views.keyboard.press("ArrowRight")
    views.keyboard.press("ArrowRight")
    with views.expect_download() as saved:
        dialog.locator("a").click()
    assert saved.value.suggested_filename == "maps-2.png"
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    views.keyboard.press("Escape")
    assert views.locator("dialog[open]").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (3840, "light")])
def test_views_fit_and_pages_stay_small(browser: Any, views_file: Path, width: int, scheme: str) -> None:
    assert views_file.stat().st_size < LARGEST
    context = browser.new_context(offline=True, color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(views_file.as_uri())
    page.wait_for_selector("#chart-2 svg")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [tile.bounding_box() for tile in page.locator(".tile").all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    context.close()


@pytest.fixture(scope="module")
def compared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two audits side by side, one of whose networks has an evil name."""
    folder, plain = tmp_path_factory.mktemp("compared"), audit().to_dict()
    for name, network in (("a", "net"), ("b", EVIL)):
        AuditResult.from_dict({**plain, "network": network}).save(folder / name)
    return comparison_of([folder / "a", folder / "b"]).save(folder / "c")


@pytest.mark.parametrize("width", [360, 1280])
def test_a_comparison_is_drawn_and_leads_to_the_audits(browser: Any, compared_file: Path, width: int) -> None:
    with opened(browser, compared_file) as page:
        page.set_viewport_size({"width": width, "height": 800})
        assert page.locator("figure.chart svg").count() >= 3
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.said == []
        links = page.locator("a[href$='index.html']")
        assert [links.nth(i).get_attribute("href") for i in range(2)] == ["../a/index.html", "../b/index.html"]
        links.nth(1).click()
        page.wait_for_selector("#chart-2 svg")
        assert EVIL in page.locator("h1").inner_text()
