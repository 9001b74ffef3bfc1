"""What an explanation and an intervention show, in sentences that rest on intervals and controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whatwhere.intervals import Estimate, over_scores
from whatwhere.report.charts import Chart
from whatwhere.report.figures import Line
from whatwhere.resampling import Resampled, over_groups, share_over_groups
from whatwhere.say.failures import nearby
from whatwhere.say.studies.speaker import SPEAKING, Speaker

ASKED = 12  # test pictures that an intervention is done to as well, evenly spaced
DRAWS = 4  # of other concepts, as the control
LEAST = 1e-3  # spread of a map: below it, it is as good as constant
HALF = 2  # groups of pictures that a half must have, for an interval
SHARE = "share of the class's cells (%)"
Changes = Callable[[int, Sequence[Mapping[int, Any]]], list[float]]  # picture, what to overwrite -> shares changed


def basis(speaker: Speaker) -> str:
    """The scores, intact and with the bottleneck, and what they were measured on."""
    found, total = speaker.scored, len(speaker.test)
    own, intact = found.row(speaker.place, SPEAKING), found.row(speaker.place, "intact")
    scores = [f"mIoU {own.miou.percent()} %"] if own else []
    scores += [f"intact {100 * intact.miou.value:.2f} %"] if intact else []
    groups = len(speaker.test.split.groups.unique())
    return (
        f"{found.settings['network']['name']} with {len(speaker.layer.names)} concepts at {speaker.place} on {total} "
        f"test pictures of {found.data['name']} in {groups} groups: {', '.join(scores)}."
    )


def failures_chart(speaker: Speaker) -> Chart:
    """The commonest failures: how much of the class they take, with intervals over groups of pictures."""
    classes, failures = speaker.scenes.classes, speaker.result["failures"]
    each = [_share(speaker, f) for f in failures]
    value, low, high = (tuple(100 * e[i] for e in each) for i in range(3))
    ticks = [f"{classes[f['true']]} predicted as {classes[f['said']]}" for f in failures]
    lines = [Line("failures", tuple(map(float, range(len(each)))), value, low, high)]
    return Chart("failures-share", "The commonest failures", SHARE, SHARE, lines, ticks=ticks, joined=False)


def of_failures(speaker: Speaker) -> str:
    """The commonest failure and how common it is, and whether a concept goes with it."""
    failures, classes = speaker.result["failures"], speaker.scenes.classes
    if not failures:
        return "No two classes are confused often enough to count as a failure."
    first = failures[0]
    value, low, high = (100 * v for v in _share(speaker, first))
    return (
        f"The commonest failure: {classes[first['true']]} predicted as {classes[first['said']]}, {value:.1f} % "
        f"[{low:.1f}, {high:.1f}] of the class. {_reason(speaker, first)}"
    )


def _share(speaker: Speaker, failure: Mapping[str, Any]) -> tuple[float, float, float]:
    """Of the true class's cells, those that are this failure, with a 95 % interval over groups of pictures."""
    said, groups = speaker.said, speaker.test.split.groups
    there = said.labels == failure["true"]
    wrong = there & (said.said == failure["said"])
    some, of = (np.array([int(m[groups == g].sum()) for g in groups.unique()]) for m in (wrong, there))
    some, of = some[of > 0], of[of > 0]
    return float(some.sum() / of.sum()), *share_over_groups(some, of)


def _reason(speaker: Speaker, failure: Mapping[str, Any]) -> str:
    """A concept that half of the groups single out, asked of the other half, beside maps of other pictures."""
    each = tallies(speaker, failure)
    each = each[(each[:, WRONG, 0] + each[:, RIGHT, 0]) > 0]
    chosen, asked = each[::2], each[1::2]
    if min(_groups(half, which) for half in (chosen, asked) for which in (WRONG, RIGHT)) < HALF:
        return (
            "Whether a concept goes with it is not shown: too few groups of pictures hold it and right cells as well."
        )
    effects = effects_of(chosen.sum(0))
    k = int(np.abs(effects).argmax())
    found, paired = (over_groups(asked[..., k], part, low=-2.0, high=2.0) for part in (_higher, _higher_than_others))
    held = all(min(np.sign(effects[k]) * e.low, np.sign(effects[k]) * e.high) > 0 for e in (found, paired))
    return (
        f"{speaker.layer.names[k]} sets it apart most clearly in {len(chosen)} groups of pictures with this class; in "
        f"{len(asked)} others its map is {_signed(found)} there against right cells of the class, and "
        f"{_signed(paired)} beyond what maps of other pictures give. "
        f"{'It goes with the failure.' if held else 'That it goes with the failure is not shown.'}"
    )


def _groups(tallied: NDArray[np.float64], which: int) -> int:
    return int((tallied[:, which, 0] > 0).sum())


def tallies(speaker: Speaker, failure: Mapping[str, Any]) -> NDArray[np.float64]:
    """Sums over the cells of the true class, group by group, of each concept's highest value near each.

    Args:
        speaker: the network.
        failure: a true and a predicted class.

    Returns:
        (G, 7, K): how many cells are wrong in this way, their sum, how many are right, their sum, the sum of squares of
        both; then the sums of wrong and of right cells with each picture's maps exchanged for those of one far from
        it in the order, hence of another group where groups follow each other: what the places alone give.
    """
    said, maps = speaker.said, nearby(speaker.said.concepts).double()
    there = said.labels == failure["true"]
    wrong, right = (there & (said.said == failure[c]) for c in ("said", "true"))
    others = maps.roll(-(len(maps) // 2), 0)
    counted = [_summed(torch.ones_like(maps), wrong), _summed(maps, wrong)]
    counted += [_summed(torch.ones_like(maps), right), _summed(maps, right), _summed(maps**2, wrong | right)]
    counted += [_summed(others, wrong), _summed(others, right)]
    each, groups = torch.stack(counted, 1).numpy(), speaker.test.split.groups.numpy()
    return np.array([each[groups == g].sum(0) for g in np.unique(groups)])


WRONG, RIGHT = 0, 2  # where `tallies` counts cells


def _summed(maps: Tensor, where: Tensor) -> Tensor:
    """(N, K) sums over some cells."""
    return (maps * where[:, None]).sum((2, 3))


def effects_of(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of wrong and right cells, (K,), in standard deviations of both together; of sums (7, K)."""
    n, mean = total[0] + total[2], (total[1] + total[3]) / (total[0] + total[2])
    spread = np.sqrt(np.maximum(0, total[4] / n - mean**2))
    found: NDArray[np.float64] = (total[1] / total[0] - total[3] / total[2]) / (spread + LEAST)
    return found


def _higher(t: NDArray[np.float64]) -> float:
    return float(t[1] / t[0] - t[3] / t[2]) if t[0] and t[2] else math.nan


def _higher_than_others(t: NDArray[np.float64]) -> float:
    return float((t[1] - t[5]) / t[0] - (t[3] - t[6]) / t[2]) if t[0] and t[2] else math.nan


def of_intervention(speaker: Speaker, values: Mapping[int, Any], changes: Changes) -> str:
    """What the same intervention does to other test pictures, beside as many other concepts overwritten alike.

    Args:
        speaker: the network.
        values: by concept's number, what it is overwritten with.
        changes: overwrites concepts of a picture in several ways, and says where the predicted class changes.
    """
    rows = np.unique(np.linspace(0, len(speaker.test) - 1, ASKED).round().astype(int)).tolist()
    draws = list(_others(len(speaker.layer.names), values))
    found = np.array([changes(row, [values, *draws]) for row in rows])
    groups = speaker.test.split.groups[rows].numpy()
    each = np.array([found[groups == g].mean(0) for g in np.unique(groups)])
    own = over_scores(each[:, 0], low=0.0)
    text = f"Done to {len(rows)} test pictures in {len(each)} groups, it changes {_percent(own)} of the predicted cells"
    if not draws:
        return f"{text}; too few concepts are left as they are for a control."
    gap = over_scores(each[:, 0] - each[:, 1:].mean(1))
    return (
        f"{text}; {len(draws)} draws of as many other concepts, overwritten alike, change "
        f"{100 * each[:, 1:].mean():.1f} %, a difference of {_percent(gap, '+.1f', 'points')}: {_verdict(gap)}"
    )


def _others(total: int, values: Mapping[int, Any]) -> Iterator[dict[int, Any]]:
    """Other concepts in the place of those that are overwritten, drawn by a seed; none where too few are left."""
    left, draws = [k for k in range(total) if k not in values], torch.Generator().manual_seed(0)
    if len(left) >= len(values):
        for _ in range(DRAWS):
            chosen = torch.randperm(len(left), generator=draws)[: len(values)].tolist()
            yield dict(zip((left[i] for i in chosen), values.values(), strict=True))


def _verdict(gap: Estimate) -> str:
    if gap.n < HALF:
        return "one group of pictures shows no difference."
    if gap.low > 0:
        return "the prediction rests on these concepts more than on others."
    return f"that it rests on these concepts more than on others is not shown{', rather less' * (gap.high < 0)}."


def _percent(e: Estimate, form: str = ".1f", unit: str = "%") -> str:
    return f"{100 * e.mean:{form}} {unit} [{100 * e.low:{form}}, {100 * e.high:{form}}]"


def _signed(e: Resampled) -> str:
    return f"{e.value:+.2f} [{e.low:+.2f}, {e.high:+.2f}]"
