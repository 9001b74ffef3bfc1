"""The page in a real browser, where there is one: drawn without a network, curves switched, values shown and saved."""

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from small_audit import EVIL, audit
from whatwhere.audits.result import AuditResult

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


@pytest.fixture(scope="module")
def page(browser: Any, file: Path) -> Iterator[Any]:
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
