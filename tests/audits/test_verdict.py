"""The three sentences, from numbers that are given."""

from dataclasses import replace

import pytest

import whatwhere as ww
from small_audit import around, audit, hold, need
from whatwhere.audits.verdict import verdict
from whatwhere.intervals import Estimate
from whatwhere.models.weights import random_weights
from whatwhere.need.studies.recommend import at_chance
from whatwhere.need.studies.result import Recommendation


def test_three_sentences():
    needs, holds, does = verdict(audit())
    assert needs == (
        "net has 80.0 % [78.0, 82.0] accuracy on 50 pictures of d. It needs to know where: shuffled from s1 on (the last "
        "67 %) it loses 30.0 points [28.0, 32.0], and most from s2 on: 50.0 points [48.0, 52.0]; the last 33 % are not "
        "shown to need any."
    )
    assert holds == (
        "It holds absolute position: left to right, it is read out of s0 with SPC 0.80 [0.78, 0.82] (1 is perfect). Out of "
        "an untrained network: 0.90, so training is not shown to have put it there. The same weights with circular "
        "padding: 0.10, so zero padding gives most of it there."
    )
    assert does == (
        "Keep its late spatial resolution: of the smaller networks (GAP+FC: layers get a mean for each channel, and no "
        "map) the mildest, from s0 on, loses 0.0 points [-2.0, 2.0] without retraining, and 1.0 points were allowed "
        "(--within). More pictures would tell whether that is so. Fine-tuning on training pictures may bring some of it "
        "back (whatwhere need recover)."
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (need((0.0, 0.0)), "No place was found where shuffling its features is shown to cost it anything."),
        (need((0.2, 0.1)), "shuffled from s0 on (the last 50 %) it loses 20.0 points [18.0, 22.0]."),
        (need((0.1, 0.2), site="s0"), "A smaller network would do. Collapse it."),
        (
            hold(0.1, 0.09),
            "It holds little absolute position: left to right, it is read out of s0 with SPC 0.10 [0.08, 0.12]",
        ),
        (
            hold(0.5, 0.4),
            "with circular padding: 0.40, so zero padding gives some of it there, and what gives the rest was",
        ),
        (hold(0.5, 0.49), "with circular padding: 0.49, so zero padding is not shown to give it there."),
        (hold(0.5, 0.24), "with circular padding: 0.24, so zero padding gives most of it there."),
    ],
)
def test_what_is_said_of_other_numbers(found, said):
    part = "need" if hasattr(found, "points") else "hold"
    assert said in " ".join(verdict(audit(**{part: found})))


@pytest.mark.parametrize(
    ("above", "said"),
    [
        (around(0.1), "Out of an untrained network: 0.90, so training put more of it there."),
        (
            around(-0.1),
            "Out of an untrained network: 0.90, so the layers give it without training, which removed some.",
        ),
        (around(0.01), "Out of an untrained network: 0.90, so training is not shown to have put it there."),
    ],
)
def test_position_beside_untrained_networks_by_the_paired_interval(above, said):
    known = hold(0.8)
    rows = tuple(replace(r, above_untrained=above) if r.network == "network" else r for r in known.rows)
    assert said in verdict(audit(hold=replace(known, rows=rows)))[0]


def test_several_untrained_networks_are_counted():
    known = hold(0.8)
    rows = tuple(replace(r, spc=replace(r.spc, repeats=3)) if r.network == "untrained" else r for r in known.rows)
    assert "Out of 3 untrained networks: 0.90" in verdict(audit(hold=replace(known, rows=rows)))[0]


def test_how_many_of_the_pictures_were_asked_is_said():
    some = replace(audit(need=need()), settings={"minutes": 5.0, "pictures": 400})
    assert "accuracy on 50 of 400 pictures of" in verdict(some)[0]


def test_a_part_that_is_missing_is_not_talked_about():
    assert len(verdict(audit(hold=hold()))) == 1
    assert verdict(audit(need=need()))[0].startswith("net has")
    unasked = replace(audit(hold=hold()), left_out={"need": "it was not asked for (--without)."})
    assert len(verdict(unasked)) == 1


def test_why_a_part_could_not_be_measured_is_said_first():
    found = replace(audit(hold=hold()), left_out={"need": "the network gives a dict."})
    assert verdict(found)[0] == "What it needs was not measured: the network gives a dict."


def test_places_that_were_shuffled_one_by_one():
    def alone(*drops):
        return replace(need(drops), settings={"reach": 1}, recommendation=None)

    assert verdict(audit(need=alone(0.3, 0.5)))[0].endswith(
        "It needs to know where: shuffled at one place alone it loses at each of the 2 places asked, from 30.0 points "
        "[28.0, 32.0] at s0 to 50.0 points [48.0, 52.0] at s1."
    )
    assert "it loses at 2 of the 3 places asked, from 10.0" in verdict(audit(need=alone(0.0, 0.1, 0.2)))[0]
    assert verdict(audit(need=alone(0.3, 0.5)))[-1] == (
        "Keep its spatial layers: of the 2 places asked, the least is lost at s0, 30.0 points [28.0, 32.0] when shuffled "
        "alone, and 1.0 points were allowed (--within). What training would bring back was not asked."
    )
    assert verdict(audit(need=alone(0.02, 0.5)))[-1].endswith("More pictures would tell whether that is so.")
    unsure = verdict(audit(need=alone(0.0, 0.5)))[-1]  # by its mean within what is allowed, by its interval not
    assert unsure.startswith(
        "Keep its spatial layers: of the 2 places asked, the least is lost at s0, 0.0 points [-2.0, 2.0]"
    )
    assert verdict(audit(need=alone(-0.05, -0.05)))[-1].startswith("Nothing is recommended: a network that answers")
    assert verdict(audit(need=alone(-0.02, -0.05, 0.5)))[-1] == (
        "Not every part needs where: shuffled alone, s0, s1 stay within the 1.0 points allowed, so 1 x 1 convolutions may "
        "do there (whatwhere need pointwise)."
    )
    assert verdict(audit(need=alone(0.0, 0.1)))[0].endswith("shuffled at s1 alone it loses 10.0 points [8.0, 12.0].")


def test_nothing_is_recommended_of_a_network_that_knows_nothing():
    """Whatever a collapse costs there."""
    knows_nothing = at_chance(Estimate(0.1, 0.05, 0.15, 0.0, 50, 1), 0.1)
    found = replace(need((0.0, 0.0)), recommendation=Recommendation(knows_nothing, 0.01))
    assert verdict(audit(need=found))[-1] == f"Nothing is recommended. {knows_nothing}"


def test_what_shuffling_costs_a_network_that_knows_nothing_is_no_verdict():
    """Places shuffled one by one have no recommendation: a note says it."""
    knows_nothing = at_chance(Estimate(0.1, 0.05, 0.15, 0.0, 50, 1), 0.1)
    found = replace(need((0.005, 0.3)), settings={"reach": 1}, recommendation=None, notes=("other", knows_nothing))
    needs, does = verdict(audit(need=found))
    assert needs.endswith(
        "accuracy on 50 pictures of d, which is not above chance: what shuffling costs it says nothing."
    )
    assert does == f"Nothing is recommended. {knows_nothing}"


def test_every_part_that_does_without_is_not_called_not_every_part():
    found = replace(need((-0.02, 0.005)), settings={"reach": 1, "within": 0.01}, recommendation=None)
    narrow = tuple(replace(p, drop=around(p.drop.mean, 0.003)) if p.drop else p for p in found.points)
    assert verdict(audit(need=replace(found, points=narrow)))[-1] == (
        "No part that was asked needs more of where than that: shuffled alone, each of s0, s1 stays within the 1.0 points "
        "allowed, so 1 x 1 convolutions may do there (whatwhere need pointwise)."
    )


def test_of_a_network_that_was_not_trained_nothing_is_said_of_training():
    """The control draws its weights otherwise than the network was made with."""
    net = ww.load_model("cifar/vgg11", classes=3, width=0.1)
    found = replace(audit(hold=hold(0.5)), notes=tuple(random_weights(net)))
    assert "Out of an untrained network, whose weights were drawn anew: 0.90; its own are random as well. The same" in (
        said := " ".join(verdict(found))
    )
    assert "training" not in said


def test_a_tool_that_answers_wrong_says_so_first():
    found = audit()
    known = [{"question": "q", "expected": "e", "found": "f", "right": right} for right in (True, False)]
    wrong = replace(found, parts={**found.parts, "check": {"known": known}})
    assert verdict(wrong)[0] == (
        "Do not trust this audit: asked what is known, whatwhere answers wrong on this machine (q)."
    )
    assert verdict(wrong)[1:] == verdict(found)
