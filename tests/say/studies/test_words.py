"""What a comparison says of itself: against the right control, and by the ends of intervals."""

from dataclasses import replace

import pytest

from whatwhere.say.studies.say_row import Interval, SayRow
from whatwhere.say.studies.words import conclusion


def interval(value: float, half: float = 0.01) -> Interval:
    return Interval(value, value - half, value + half, 25)


def row(kind: str, miou: float, channels: int = 28, **more) -> SayRow:
    plain = None if kind == "intact" else interval(miou - 0.50)
    return SayRow("fuse", kind, channels, (), interval(miou), interval(0.9), plain, (miou,), (), **more)


def seen(auic: float, noise: float, one: float, half: float = 0.01) -> dict:
    """An inspection of which every interval has the same width."""
    draws = [noise - 0.005, noise, noise + 0.005]
    return {
        "auic": auic,
        "interval": [auic - half, auic + half],
        "noise": {"auic": noise, "draws": draws, "channels": 28, "above": ends(auic - noise, half)},
        "commonest": {"concept": 3, "auic": one, "above": ends(auic - one, half)},
        "against": {"intact": ends(auic - 0.4, half)},
    }


def ends(value: float, half: float) -> list[float]:
    return [value, value - half, value + half]


INTACT, TUNED = row("intact", 0.50, 64), row("tuned", 0.53, 64)
LEARNED = row("learned", 0.52, against={"tuned": interval(-0.01, 0.02)})
SSB = row("ssb", 0.51, against={"tuned": interval(-0.02), "learned": interval(-0.01, 0.02)})


def test_the_first_sentence_names_the_fine_tuned_control_of_the_same_width():
    text = conclusion((INTACT, TUNED, SSB, LEARNED), interval(0.7), 233)
    first = text.split(". ")[0]
    assert "28 learned maps without names, fine-tuned alike: no significant difference" in first
    assert "-1.00 [-3.00, +1.00] points" in first
    assert "on 233 test pictures in 25 groups, which resolve some 2.00 points" in first
    assert "intact" not in first
    assert text.endswith("A table from the true concepts to classes reaches mIoU 70.00 [69.00, 71.00] %.")


def test_a_gain_over_the_intact_network_that_tuning_gives_as_well_is_none():
    """Better by a point than the network as it was, worse by two than the same fine-tuning."""
    text = conclusion((INTACT, TUNED, SSB, LEARNED), None, 233)
    assert SSB.change.low >= 0
    assert "a gain" not in text
    assert "the network has 50.00 %, and 53.00 % after the same fine-tuning without a bottleneck" in text
    assert "from which it is -2.00 [-3.00, -1.00] points" in text


def test_controls_that_are_missing_are_named():
    alone = replace(SSB, against={})
    text = conclusion((INTACT, alone), None, 8)
    assert "no control that was fine-tuned alike was measured (kind learned or tuned)" in text
    assert "what the fine-tuning alone adds to it was not measured (kind tuned)" in text
    only = conclusion((INTACT, TUNED, replace(SSB, against={"tuned": interval(-0.02)})), None, 8)
    assert "-2.00 [-3.00, -1.00] points from the same fine-tuning without a bottleneck: a loss" in only
    older = conclusion((INTACT, TUNED, alone), None, 8)  # result.json of an earlier version
    assert "which an earlier version did not" in older
    assert "At fuse, without a bottleneck: mIoU 53.00" in conclusion((INTACT, TUNED), None, 8)
    assert "At fuse, without a bottleneck: mIoU 50.00" in conclusion((INTACT,), None, 8)
    assert "64 channels become 28 maps (learned): mIoU 52.00" in conclusion((INTACT, TUNED, LEARNED), None, 8)


@pytest.mark.parametrize(
    ("auic", "noise", "one", "verdict"),
    [
        (0.712, 0.685, 0.70, "above noise and above a channel that is always on"),
        (0.712, 0.700, 0.60, "not above noise:"),  # its interval is, but not above the luckiest draw
        (0.712, 0.600, 0.705, "not above a channel that is always on:"),
        (0.594, 0.685, 0.70, "not above noise or a channel that is always on:"),
    ],
)
def test_the_verdict_on_an_auic_rests_on_the_lower_end_above_both_baselines(auic, noise, one, verdict):
    text = conclusion((INTACT, replace(SSB, extras={"inspection": seen(auic, noise, one, 0.011)})), None, 8)
    assert verdict in text
    assert f"28 channels of noise reach {noise:.3f} ({noise - 0.005:.3f} to {noise + 0.005:.3f} in 3 draws)" in text
    assert f"one that is always on {one:.3f}, the channels as they were trained 0.400" in text


def test_an_auic_of_an_earlier_version_has_no_verdict():
    text = conclusion((INTACT, replace(SSB, extras={"inspection": {"auic": 0.712}})), None, 8)
    assert "AUiC 0.712; what noise reaches was not measured" in text


def test_channels_are_compared_with_their_own_concept():
    for low, word in ((0.01, "more"), (-0.01, "not more")):
        found = {
            **seen(0.7, 0.6, 0.6),
            "named": {"iou": [0.3, 0.28, 0.32], "always on": 0.2, "above": [0.1, low, 0.2]},
        }
        text = conclusion((INTACT, replace(SSB, extras={"inspection": found})), None, 8)
        assert f"named after by 0.300 [0.280, 0.320], {word} than if it were always on (0.200)" in text
