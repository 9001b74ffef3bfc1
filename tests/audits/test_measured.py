"""Each part comes back as the result of its own study."""

from dataclasses import replace
from pathlib import Path

from small_audit import audit, hold, need
from whatwhere.audits.verdict import verdict
from whatwhere.files import read_json
from whatwhere.scores.classes import ACCURACY


def test_parts_come_back_as_what_they_were():
    found = audit()
    assert found.need == need()
    assert found.hold == hold()
    assert found.patches is None
    assert found.measured is ACCURACY
    assert audit(need=need()).hold is None


def test_what_was_trained_comes_back_and_concludes():
    golden = Path(__file__).parents[1] / "golden"
    plain = {
        part: read_json(golden / kind / "result.json") for part, kind in (("use", "compare"), ("say", "bottleneck"))
    }
    found = audit()
    trained = replace(found, parts={**found.parts, **{part: {"trained": value} for part, value in plain.items()}})
    assert list(trained.trained) == ["use", "say"]
    assert verdict(trained)[3:] == [result.conclusion for result in trained.trained.values()]
    assert "use/index.html" in trained.report().pages.values()
    assert found.trained == {}
