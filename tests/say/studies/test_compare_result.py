"""Tables of the comparison."""

from dataclasses import replace

import pytest

from whatwhere.errors import InputError
from whatwhere.say.studies.compare_result import SayResult, _confidence_lines

SITE = "middle"


def test_a_measure_that_is_not_there_is_named(said):
    row = said.result.row(SITE, "ssb")
    measures = {
        k: {**v, "auroc": [None] * 3, "accuracy": None} for k, v in row.extras["confidence"]["measures"].items()
    }
    lines = _confidence_lines(replace(row, extras={"confidence": {"measures": measures}}))
    assert lines[0]["AUROC [95 %]"] == "all right, or all wrong"
    assert lines[0]["accuracy there"] == "nothing answered"


def test_a_result_without_rows_knows_of_no_failures():
    """Nor does it say that there are none."""
    nothing = SayResult((), ("road",), {}, {})
    for site in (None, SITE):
        with pytest.raises(InputError, match="this result has no rows, so that nothing is known of failures; run the"):
            nothing.failures(site)


def test_failures_are_those_of_the_supervised_bottleneck(said):
    seen = [{"true": 0, "said": 1, "pixels": 90, "share": 0.28, "reasons": []}]
    rows = tuple(replace(r, extras={"failures": seen * (2 if r.kind == "ssb" else 1)}) for r in said.result.rows)
    found = replace(said.result, rows=rows)
    assert len(found.failures()) == len(found.failures(SITE)) == 2
    with pytest.raises(InputError, match=f"site='midle' matches nothing. Did you mean '{SITE}'"):
        found.failures("midle")
    others = replace(found, rows=tuple(r for r in found.rows if r.kind != "ssb"))
    bare = replace(found, rows=tuple(replace(r, extras={}) for r in found.rows))
    assert others.failures(SITE) == bare.failures(SITE) == []
