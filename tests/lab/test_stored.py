"""Any result is read back by its kind."""

import json

import pytest

from whatwhere.errors import InputError
from whatwhere.studies.position.result import PositionResult
from whatwhere.studies.stored import KINDS, load_result


def test_a_result_is_read_by_its_kind(tmp_path):
    empty = PositionResult("n", {}, {}, {}, ())
    (tmp_path / "result.json").write_text(json.dumps(empty.to_dict()))
    assert load_result(tmp_path) == empty


def test_an_unknown_kind_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "result.json").write_text('{"kind": "horoscope"}')
    with pytest.raises(InputError, match="red-green"):
        load_result(tmp_path)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "demo"])
def test_another_schema_version_is_refused(kind):
    with pytest.raises(InputError, match="version"):
        KINDS[kind]({"kind": kind, "schema_version": 99})
