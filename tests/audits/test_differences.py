"""What is compared with what: known answers first."""

import json
import shutil

import numpy as np
import pytest
import torch

from small_audit import audit, hold, need
from whatwhere.audits.differences import NEAR, Compared, matched
from whatwhere.audits.folder import Audited, audited
from whatwhere.audits.pairs import ITSELF


def compared(audits, other, first="net"):
    return Compared(*audited([audits[first], audits[other]]))


def test_a_network_against_itself_differs_in_nothing(audits):
    rows = compared(audits, "again").rows()
    assert {r.part for r in rows} == {"need", "patches", "hold", "fields"}
    assert {(r.difference.mean, r.difference.low, r.difference.high) for r in rows} == {(0, 0, 0)}
    assert {r.difference.covers for r in rows} == {ITSELF}
    assert all(r.paired for r in rows if r.part != "fields")


def test_broken_weights_cost_what_is_known(audits):
    """The network is always right, of two classes of one size; the broken one says one class and loses nothing."""
    rows = compared(audits, "broken").rows()
    intact = rows[0]
    assert (intact.first.mean, intact.second.mean, intact.difference.mean) == (1.0, 0.5, -0.5)
    assert intact.paired
    assert intact.difference.high < 0
    losses = [r for r in rows if r.what.startswith("loss")]
    assert losses
    assert {r.second.mean for r in losses} == {0.0}
    for r in losses:
        assert r.difference.mean == pytest.approx(-r.first.mean)
    held = [r for r in rows if r.part == "hold"]  # the features are the same: only the answer was broken
    assert {(r.difference.mean, r.paired) for r in held} == {(0.0, True)}


def test_the_paired_difference_is_that_of_each_picture(audits):
    pair = compared(audits, "broken")
    rows = [r for r in pair.rows() if r.matched == "the same site" and r.part == "need"]
    assert len(rows) == 6
    for r in rows:
        method, lost = "per-channel" if "shuffling" in r.what else "mean", []
        for one in (pair.first, pair.second):
            tally = one.need[method, r.sites[0]]
            lost.append([one.need[None].rates[i] - tally.rates[i] for i in range(len(tally.rates))])
        assert r.difference.mean == pytest.approx(np.mean([b - a for a, b in zip(*lost, strict=True)]))


def test_other_pictures_are_not_paired(audits):
    rows = compared(audits, "others").rows()
    assert rows
    assert not any(r.paired for r in rows)
    intact = rows[0]
    assert (intact.first.n, intact.second.n) == (40, 32)


def test_fewer_of_the_same_pictures_are_paired_where_both_saw_them(audits, tmp_path):
    """Of 40 pictures and of a part of them, in whatever order the rows are."""
    part = cut(audits["broken"], tmp_path / "part", keep=slice(5, 30))
    pair = Compared(*audited([audits["net"], part]))
    row = pair.rows()[0]
    assert (row.paired, row.difference.n) == (True, 25)
    right = pair.second.need[None].rates
    assert row.second.mean == pytest.approx(right.mean())
    same = Compared(*audited([audits["broken"], part]))
    answers = same.first.need[None].rates
    assert (answers[5:30] != answers[:25]).any()
    here, there = same.common("need")
    assert (answers[here] == right[there]).all()  # picture by picture
    assert same.rows()[0].difference.mean == 0


def cut(folder, to, keep):
    """An audit as if only some pictures had been asked: of the intact network alone."""
    shutil.copytree(folder, to)
    one = Audited(folder, "", audited([folder, folder.parent / "net"])[0].found)
    tally = one.need[None]
    for file in (to / "need" / "cells").glob("*.json"):
        file.unlink()
    picked = type(tally).of(torch.from_numpy(tally.hits[keep][None] > 0))
    plain = {"config": {"collapse": None}, "result": picked.to_dict()}
    (to / "need" / "cells" / "x.json").write_text(json.dumps(plain))
    result = json.loads((to / "result.json").read_text())
    result["parts"]["need"]["asked"]["rows"] = result["parts"]["need"]["asked"]["rows"][keep]
    (to / "result.json").write_text(json.dumps(result))
    return to


def test_folders_of_versions_that_did_not_record_the_pictures_are_paired_by_their_fingerprint(audits, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(audits["broken"], old)
    plain = json.loads((old / "result.json").read_text())
    del plain["parts"]["need"]["asked"]
    (old / "result.json").write_text(json.dumps(plain))
    assert Compared(*audited([audits["net"], old])).rows()[0].paired
    study = json.loads((old / "need" / "study.json").read_text())
    (old / "need" / "study.json").write_text(json.dumps({**study, "data": "other"}))
    assert not Compared(*audited([audits["net"], old])).rows()[0].paired


def test_pictures_that_belong_together_are_paired_only_if_it_is_known_which(audits, tmp_path):
    """Of frames of videos, say: the interval is then over groups."""
    grouped = tmp_path / "grouped"
    shutil.copytree(audits["broken"], grouped)
    plain = json.loads((grouped / "result.json").read_text())
    plain["parts"]["need"]["intact"][0]["accuracy"]["covers"] = "groups of test pictures"
    (grouped / "result.json").write_text(json.dumps(plain))
    assert not Compared(*audited([grouped, audits["net"]])).rows()[0].paired
    plain["parts"]["need"]["asked"]["groups"] = [i // 4 for i in range(40)]
    (grouped / "result.json").write_text(json.dumps(plain))
    row = Compared(*audited([grouped, audits["net"]])).rows()[0]
    assert (row.paired, row.difference.covers) == (True, "groups of test pictures")


def test_what_one_lacks_is_listed_with_the_reason(tmp_path):
    pair = Compared(Audited(tmp_path, "A", audit()), Audited(tmp_path, "B", audit(need=need())))
    assert {r.part for r in pair.rows()} == {"need", "fields"}
    assert ("hold", "B lacks it: it is not in the folder.") in pair.left_out


def test_another_score_or_reach_is_not_compared(tmp_path):
    plain = audit(need=need()).to_dict()
    other = type(audit()).from_dict({**plain, "score": {"name": "top5", "label": "top-5 accuracy", "unit": "%"}})
    pair = Compared(Audited(tmp_path, "A", audit(need=need())), Audited(tmp_path, "B", other))
    assert [r.part for r in pair.rows()] == ["fields"]
    assert dict(pair.left_out)["need"].startswith(
        "measured in accuracy and in top-5 accuracy; audit both with the same"
    )
    alone = need()
    alone = type(alone).from_dict({**alone.to_dict(), "settings": {"reach": 1}})
    pair = Compared(Audited(tmp_path, "A", audit(need=need())), Audited(tmp_path, "B", audit(need=alone)))
    assert [r.what for r in pair.rows() if r.part == "need"] == ["accuracy of the intact network"]
    assert "at 1 place alone in B" in dict(pair.left_out)["need's losses"]


def test_the_best_site_of_each_with_its_control(tmp_path):
    pair = Compared(Audited(tmp_path, "A", audit(hold=hold(0.8))), Audited(tmp_path, "B", audit(hold=hold(0.5))))
    row = next(r for r in pair.rows() if r.part == "hold")
    assert (row.what, row.paired) == ("SPC of columns (H), best site", False)
    assert row.difference.mean == pytest.approx(-0.3)
    assert row.controls == (0.9, 0.9)


def test_a_read_out_of_more_pictures_is_no_sure_difference(tmp_path):
    """Of what is higher where more pictures were fitted, the pictures may be the reason."""
    few, many = (
        type(h).from_dict({**h.to_dict(), "settings": {"pictures": {"fit": {"pictures": n}}}})
        for h, n in ((hold(0.5), 10), (hold(0.8), 90))
    )
    pair = Compared(Audited(tmp_path, "A", audit(hold=few)), Audited(tmp_path, "B", audit(hold=many)))
    assert not any(r.leads for r in pair.rows() if r.part == "hold")
    assert any("of 10 pictures in A, of 90 in B" in why for _, why in pair.left_out)
    lower = type(many).from_dict({**hold(0.3).to_dict(), "settings": many.settings})
    pair = Compared(Audited(tmp_path, "A", audit(hold=few)), Audited(tmp_path, "B", audit(hold=lower)))
    assert all(r.leads for r in pair.rows() if r.part == "hold")


def test_places_of_one_name_and_depth_first_then_the_nearest():
    here = {"a": 0.1, "b": 0.5, "c": 0.9}
    there = {"a": 0.1, "x": 0.45, "y": 0.52, "z": 0.9 + NEAR + 0.01}
    assert matched(here, there) == [("a", "a", "the same site"), ("b", "y", "nearest depth")]
    assert matched(here, here) == [(s, s, "the same site") for s in here]


def test_places_that_have_no_counterpart_are_listed(tmp_path):
    pair = Compared(Audited(tmp_path, "A", audit()), Audited(tmp_path, "B", audit(need=need((0.0,)))))
    pair.rows()
    why = dict(pair.left_out)["loss by shuffling (per-channel), s0, s1"]
    assert why == "A alone: the other has no place left within 10 points of the depth."
