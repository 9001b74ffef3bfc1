"""The demo's answer, from rows that are written out: at what cost, and for which reason."""

from typing import Any

import pytest

from whatwhere.data.street_objects import CONFUSED, DIFFERENCE
from whatwhere.say.studies.compare import SITE
from whatwhere.say.studies.compare_result import SayResult
from whatwhere.say.studies.demo_result import DemoResult, verdict
from whatwhere.say.studies.say_row import Interval, SayRow

NAMES = (f"part: {DIFFERENCE}", "part: wheel")


def interval(value: float) -> Interval:
    return Interval(value, value - 0.01, value + 0.01, 8)


def row(kind: str, **more: Any) -> SayRow:
    return SayRow(SITE, kind, 28, NAMES, interval(0.5), interval(0.9), None, (0.5,), (0.5, 0.5), **more)


def failure(concept: int, true: int = 0, said: int = 1) -> dict[str, Any]:
    reason = {"concept": concept, "wrong": 0.1, "right": 0.8, "there": None}
    return {"true": true, "said": said, "pixels": 90, "share": 0.28, "reasons": [reason]}


def result(cost: float = -0.005, concept: int = 0, classes: tuple[str, ...] = CONFUSED) -> SayResult:
    extras = {"failures": [failure(concept)]}
    ssb = row("ssb", against={"learned": interval(cost)}, extras=extras)
    return SayResult((ssb, row("learned")), classes, {"sizes": {"test": 120}}, {})


def test_the_known_answer_is_said_with_the_far_end_of_its_cost() -> None:
    assert verdict(result()) == (
        "As expected: against 28 learned maps without names, fine-tuned alike, 28 concepts cost at most 1.50 points of "
        "mIoU (0.50 on 120 test pictures; allowed 2), and the commonest failure is car predicted as taxi (28.0 % of the "
        "class), for part: roof sign 0.10 instead of 0.80."
    )


@pytest.mark.parametrize(
    "found",
    [result(cost=-0.015), result(concept=1), result(classes=("road", "sky")), result(classes=("car", "sky"))],
    ids=["the end of the interval decides", "another reason", "other classes", "one of the classes"],
)
def test_any_other_answer_is_not_as_expected(found: SayResult) -> None:
    assert verdict(found).startswith("NOT as expected: against")


def test_the_direction_of_the_confusion_does_not_matter() -> None:
    assert verdict(result(classes=CONFUSED[::-1])).startswith("As expected")


def test_what_is_missing_is_said_so() -> None:
    whole = result()
    ssb, control = whole.rows
    for rows in ((), (ssb,), (control,), (row("ssb"), control)):
        assert "or its fine-tuned control is missing" in verdict(SayResult(rows, CONFUSED, whole.data, {}))


def test_the_demo_is_the_comparison_with_an_answer_of_its_own() -> None:
    found = DemoResult.of(result())
    assert (found.rows, found.classes, found.kind) == (result().rows, CONFUSED, "say demo")
    assert found.conclusion == verdict(result())
