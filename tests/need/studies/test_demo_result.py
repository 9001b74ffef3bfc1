"""What the demo says of its tasks."""

import pytest

from small_need import found
from whatwhere.need.studies.demo_result import CHANCE, EXPECTED, DemoResult, verdict


@pytest.mark.parametrize(
    ("what", "where", "held"),
    [
        ((1.0, 0.99), (0.99, 0.09), True),
        ((1.0, 0.9), (0.99, 0.09), False),
        ((1.0, 1.0), (0.9, 0.09), False),
        ((1.0, 1.0), (0.99, 0.3), False),
        ((1.0, 0.975), (0.99, 0.09), False),  # 2.5 points, and as likely 3.5: the end of the interval decides
        ((1.0, 1.0), (0.99, 0.13), False),
        ((1.0, 1.0), (0.99, 0.04), False),
        ((1.0, 1.0), (0.955, 0.09), False),
    ],
)
def test_the_verdict_holds_only_if_both_known_answers_come_out(what, where, held):
    text = verdict(found(*what), found(*where))
    assert text.startswith("As expected" if held else "NOT as expected")
    assert f"costs at most {100 * (what[0] - what[1]) + 1:.1f} points" in text
    assert text.endswith("each on 100 test pictures.")


def demo(**tasks) -> DemoResult:
    return DemoResult({task: found(*accuracies) for task, accuracies in tasks.items()}, ("A note.",))


def test_the_verdict_is_in_points_and_per_cent():
    assert demo(what=(1.0, 0.99), where=(0.99, 0.09)).conclusion == (
        "As expected: the collapse costs at most 2.0 points where a bag of textures is enough (1.0 [0.0, 2.0]; "
        "allowed 3); where the class is the arrangement, accuracy falls from 99.0 [98.0, 100.0] % to 9.0 [8.0, 10.0] % "
        "(chance is 8.3 %), each on 100 test pictures."
    )


def test_without_both_known_answers_there_is_no_verdict():
    assert demo(what=(1.0, 1.0), digits=(0.98, 0.9)).conclusion == ""


def test_each_task_is_a_line_with_its_deepest_collapse():
    (line,) = demo(digits=(0.98, 0.9)).table()
    assert line == {
        "task": "digits",
        "collapsed from": "s0.88",
        "intact %": "98.00",
        "collapsed %": "90.00",
        "drop": "8.00",
        "drop 95 %": "[7.00, 9.00]",
        "test pictures": "100",
    }


def test_the_curves_begin_with_the_intact_network():
    (axes,) = demo(where=(0.99, 0.09), digits=(0.98, 0.9)).plot().axes
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert list(drawn["where"].get_xdata()) == pytest.approx([0, 62, 88])
    assert list(drawn["where"].get_ydata()) == pytest.approx([99, 99, 9])


def test_the_page_says_what_is_expected_and_links_to_the_tasks(tmp_path):
    result = demo(what=(1.0, 0.99), where=(0.99, 0.09))
    page = result.report(tmp_path)
    assert page.notes == [f"what: {EXPECTED['what']}", f"where: {EXPECTED['where']}", "A note."]
    assert list(page.pages.values()) == ["what/index.html", "where/index.html"]
    assert result.report().pages == {}
    assert CHANCE == 1 / 12


def test_it_comes_back_from_its_plain_values():
    result = demo(what=(1.0, 0.99))
    again = DemoResult.from_dict(result.to_dict())
    assert again == result
    assert result.to_dict()["tasks"]["what"]["kind"] == "dependency"
