"""Folders of audits: what is read, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from compared_audits import data, seeing
from whatwhere.audits.asked import which
from whatwhere.audits.folder import audited
from whatwhere.errors import InputError
from whatwhere.scores.classes import ACCURACY


def test_what_is_read_is_what_the_audit_found(audits):
    """Every point of the curve, of the patches and of the read-out again, from the answers that are kept."""
    one, _ = audited([audits["net"], audits["broken"]])
    need, patches, hold = one.found.need, one.found.patches, one.found.hold
    assert one.need[None].estimate(ACCURACY) == need.intact[0].score
    for p in need.points:
        assert one.need[(p.method, p.site)].loss(one.need[None], ACCURACY) == p.drop
    for row in patches.cut:
        assert one.patches[("patches", str(row.grid))].loss(one.patches[None], ACCURACY) == row.drop
    for row in hold.of(inputs="pictures"):
        assert one.held[row.target, row.site].mean() == pytest.approx(row.spc.mean)


def test_which_pictures_were_asked_is_recorded(audits):
    one, _ = audited([audits["net"], audits["broken"]])
    n = one.found.need.intact[0].score.n
    assert one.pictures("need")["rows"] == which(data().test, n)["rows"]
    few = which(data().test, 7)["rows"]
    assert np.array_equal(data().test.take(7).labels, data().test.labels[few])
    assert set(few) < set(which(data().test, 9)["rows"])  # more pictures hold the fewer
    assert seeing().name == one.found.network


def test_networks_of_one_name_are_called_by_their_folders(audits):
    labels = [one.label for one in audited([audits["net"], audits["broken"]])]
    assert labels == ["small (net)", "small (broken)"]


def test_the_same_network_is_known_as_such(audits):
    net, again, wrong = audited([audits[n] for n in ("net", "again", "broken")])
    assert net.is_same_network(again)
    assert not net.is_same_network(wrong)
    assert net.fingerprint() == wrong.fingerprint() != ""


@pytest.fixture
def wrongs(audits, tmp_path):
    unfinished = tmp_path / "unfinished"
    shutil.copytree(audits["net"], unfinished)
    (unfinished / "result.json").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "result.json").write_text(json.dumps({"kind": "position", "schema_version": 1}))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "does not exist; give a folder that whatwhere audit wrote"),
        ("file", "is a file; give a folder"),
        ("empty", "holds no audit .no result.json.; whatwhere audit --model MODEL --data DATA --out .*empty-audit"),
        ("unfinished", "is not finished; run its command again"),
        ("other", "holds a result of kind 'position', not an audit"),
    ],
)
def test_what_is_no_finished_audit_is_refused(audits, wrongs, name, said):
    with pytest.raises(InputError, match=said):
        audited([audits["net"], wrongs / name])


def test_a_part_of_an_audit_is_not_an_audit(audits):
    with pytest.raises(InputError, match=f"kind 'dependency', not an audit; did you mean {audits['broken']}"):
        audited([audits["net"], audits["broken"] / "need"])


def test_fewer_than_two_and_the_same_twice(audits):
    with pytest.raises(InputError, match="1 folder: give two or more"):
        audited([audits["net"]])
    with pytest.raises(InputError, match="is given twice"):
        audited([audits["net"], audits["net"] / ".." / "net"])
