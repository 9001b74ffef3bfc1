"""The coverage table: `make coverage` measures it, and every run of the tests measures some of it again."""

import os
import re

import pytest

from coverage_checks import CHECKS
from coverage_networks import LISTED, NETWORKS, Entry
from coverage_table import PAGE, REFUSED, WORKS, checked, measure, page

EVERY = "WHATWHERE_COVERAGE" in os.environ
AGAIN = ("cifar/resnet20", "by hand: averaged", "by hand: flattened")
QUICK = [what for what in CHECKS if what != "export"]  # which has tests of its own
FAMILIES = (
    "resnet, resnetv2, resnext, resnest, ecaresnet, vgg, alexnet, densenet, dla, mobilenet v1, mobilenet v2, "
    "mobilenet v3, mobilenet v4, mnasnet, efficientnet, efficientnet, tf, efficientnet, v2, efficientnet, lite, regnet, "
    "shufflenet, squeezenet, googlenet, inception, convnext, convnextv2, edgenext, convmixer, poolformer, fastvit, "
    "mobilevit, coatnet, efficientformer, pvt, hrnet, repvgg, nf_resnet, vit, deit, swin, mixer, bagnet, CIFAR nets, "
    "U-Net, by hand, functional"
)


def cells() -> dict[str, list[str]]:
    """What the page says: for each network the words in its row."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {row[1]: [re.sub(r" \(.*\)", "", word) for word in row[3:]] for row in rows[2:]}


@pytest.mark.skipif(not EVERY, reason="make coverage")
@pytest.mark.parametrize("entry", LISTED, ids=lambda e: e.name)
def test_every_cell_works_or_is_refused(entry: Entry) -> None:
    found = measure(entry)
    assert [what for what, cell in found.items() if cell["status"] == "wrong"] == []


@pytest.mark.skipif(EVERY, reason="the page is made after this run")
def test_the_page_holds_every_network_and_no_wrong_cell() -> None:
    shown = cells()
    assert list(shown) == list(NETWORKS)
    assert {len(row) for row in shown.values()} == {len(CHECKS)}
    assert "wrong" not in {word.strip("*") for row in shown.values() for word in row}


@pytest.mark.skipif(EVERY, reason="the page is made after this run")
@pytest.mark.parametrize(("convolutional", "least"), [(True, 0.95), (False, 0.85)])
def test_enough_of_it_works(convolutional: bool, least: float) -> None:
    words = [w for name, row in cells().items() if NETWORKS[name].is_cnn or not convolutional for w in row]
    assert words.count(WORKS) >= least * len(words)


def test_the_families_are_there() -> None:
    missing = [f for f in re.split(r", (?!tf|v2|lite|functional)", FAMILIES) if f not in {e.family for e in LISTED}]
    assert missing == []
    assert len(LISTED) >= 60


@pytest.mark.skipif(EVERY, reason="measured above")
@pytest.mark.parametrize("what", QUICK)
@pytest.mark.parametrize("name", AGAIN)
def test_the_page_says_what_is_so(name: str, what: str) -> None:
    assert cells()[name][list(CHECKS).index(what)] == checked(NETWORKS[name], what)["status"]


def test_a_page_of_cells_says_how_many_work_and_why_others_do_not() -> None:
    ok = {"status": WORKS, "said": "7 gates"}
    rows = {"cifar/vgg16": dict.fromkeys(CHECKS, ok) | {"recalibrate": {"status": REFUSED, "said": "no block."}}}
    text = page(rows)
    assert "* **convolutional**: 1 networks, 8 cells, 87.5 % work; 0 in part, 1 refused, 0 wrong." in text
    assert "| CIFAR nets | cifar/vgg16 | 32 | works (7) |" in text
    assert "* cifar/vgg16, recalibrate: no block." in text
