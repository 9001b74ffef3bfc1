"""Tables of the comparison."""

from dataclasses import replace

from whatwhere.say.studies.compare_result import _confidence_lines

SITE = "middle"


def test_a_measure_that_is_not_there_is_named(said):
    row = said.result.row(SITE, "ssb")
    measures = {
        k: {**v, "auroc": [None] * 3, "accuracy": None} for k, v in row.extras["confidence"]["measures"].items()
    }
    lines = _confidence_lines(replace(row, extras={"confidence": {"measures": measures}}))
    assert lines[0]["AUROC [95 %]"] == "all right, or all wrong"
    assert lines[0]["accuracy there"] == "nothing answered"
