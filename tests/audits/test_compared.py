"""From folders to a comparison: notes, curves, and what has no interval."""

import json
import shutil

import pytest

from whatwhere.audits.compared import comparison_of, refuse_out
from whatwhere.errors import InputError


@pytest.fixture(scope="module")
def found(audits):
    return comparison_of([audits["net"], audits["broken"], audits["others"]])


def test_each_is_compared_with_the_first(found):
    assert {(r.network, r.against) for r in found.rows} == {
        ("small (broken)", "small (net)"),
        ("small (others)", "small (net)"),
    }
    assert [a["label"] for a in found.audits] == ["small (net)", "small (broken)", "small (others)"]
    assert {row["network"] for row in found.left_out} == {"small (broken)", "small (others)"}


def test_speed_and_known_answers_stand_beside_each_other_without_an_interval(found):
    rows = {r["quantity"]: r for r in found.plain}
    assert rows["known answers that are right"]["small (net)"] == "not asked"
    flops = rows["operations of a picture (GFLOP)"]
    assert flops["small (net)"] == flops["small (broken)"]
    assert float(rows["forward pass, ms a picture, timed once"]["small (net)"]) >= 0


def test_times_of_other_machines_are_not_compared(audits, tmp_path):
    shutil.copytree(audits["broken"], tmp_path / "there")
    file = tmp_path / "there" / "result.json"
    plain = json.loads(file.read_text())
    plain["provenance"]["hardware"]["cpu"] = "another"
    file.write_text(json.dumps(plain))
    rows = [r["quantity"] for r in comparison_of([audits["net"], tmp_path / "there"]).plain]
    assert rows == ["operations of a picture (GFLOP)", "known answers that are right"]


def test_curves_of_all_networks_and_their_difference(found):
    need = [c.line.label for c in found.curves if c.chart == "need" and not c.hidden]
    assert need == [f"small ({n}), shuffle, per-channel" for n in ("net", "broken", "others")]
    difference = next(c.line for c in found.curves if c.chart == "difference" and not c.hidden)
    rows = [r for r in found.rows if r.what == "loss by shuffling (per-channel)" and r.network == "small (broken)"]
    assert difference.y == tuple(100 * r.difference.mean for r in rows)
    controls = {c.line.label for c in found.curves if c.control}
    assert "small (net), H, untrained" in controls


def test_the_notes_say_what_else_differs(found):
    text = " ".join(found.notes)
    assert "95 % interval each" in text
    assert "small (others) was asked on other pictures than small (net)" in text
    assert "small (broken) was asked on other pictures" not in text


def test_a_folder_of_an_earlier_version_and_the_same_network_are_notes(audits, tmp_path):
    shutil.copytree(audits["again"], tmp_path / "old")
    file = tmp_path / "old" / "result.json"
    plain = json.loads(file.read_text())
    del plain["parts"]["need"]["asked"]
    file.write_text(json.dumps(plain))
    text = " ".join(comparison_of([audits["net"], tmp_path / "old"]).notes)
    assert "is not recorded in small (old)" in text
    assert "small (net) and small (old) are the same network" in text


def test_a_study_is_not_written_over(audits, tmp_path):
    with pytest.raises(InputError, match="holds a study; choose another folder"):
        refuse_out(audits["net"])
    refuse_out(tmp_path)
