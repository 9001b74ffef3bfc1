"""Each part comes back as the result of its own study."""

from small_audit import audit, hold, need
from whatwhere.scores.classes import ACCURACY


def test_parts_come_back_as_what_they_were():
    found = audit()
    assert found.need == need()
    assert found.hold == hold()
    assert found.patches is None
    assert found.measured is ACCURACY
    assert audit(need=need()).hold is None
