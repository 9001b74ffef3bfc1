"""The answer of a comparison of bottlenecks, and its failures, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whatwhere.say.studies.say_row import Interval, SayRow, sites_of

REASONS = 3  # concepts named for each failure
FAILURES = 12  # rows
NAMED = ("ssb", "ssb-binary", "truth")  # kinds whose maps bear names
PLAIN = ("intact", "tuned")
CONTROLS = {  # fine-tuned as every kind is; the first one there is named first
    "learned": "{} learned maps without names, fine-tuned alike",
    "tuned": "the same fine-tuning without a bottleneck",
}
LIKE = {"intact": "the channels as they were trained", "learned": "the learned maps"}
ON_BRODEN = "Broden+"  # where inspectability was measured, if not on the scenes


def conclusion(rows: tuple[SayRow, ...], ceiling: Interval | None, pictures: int) -> str:
    """The answer first: the loss against the fine-tuned controls, then inspectability and confidence.

    Args:
        rows: of the result.
        ceiling: mIoU of a table from the true concepts to classes.
        pictures: that everything was tested on.
    """
    texts = [_of_site(rows, site, pictures) for site in sites_of(rows)]
    if ceiling:
        texts.append(f"A table from the true concepts to classes reaches mIoU {ceiling.percent()} %.")
    return " ".join(t for t in texts if t)


def _of_site(rows: tuple[SayRow, ...], site: str, pictures: int) -> str:
    here = {r.kind: r for r in rows if r.site == site}
    if "intact" not in here:
        return ""
    row = next((here[k] for k in dict.fromkeys(["ssb", *here, *CONTROLS]) if k in here and k not in PLAIN), None)
    if row is None:
        return _plain(here, pictures)
    return _cost(row, here, pictures) + _inspected(row) + _sure(here["intact"], row)


def _plain(here: Mapping[str, SayRow], pictures: int) -> str:
    """Where no bottleneck was measured."""
    row = here.get("tuned", here["intact"])
    change = row.change and f", {row.change.percent(sign=True)} points by the fine-tuning alone ({_word(row.change)})"
    return f"At {row.site}, without a bottleneck: mIoU {row.miou.percent()} %{change or ''}, {_tested(row, pictures)}."


def _cost(row: SayRow, here: Mapping[str, SayRow], pictures: int) -> str:
    """First the cost against what was fine-tuned alike, and what so many pictures can resolve."""
    text = f"At {row.site}, {here['intact'].channels} channels become {_channels(row)}: mIoU {row.miou.percent()} %"
    name = next((c for c in CONTROLS if c in row.against and c in here), None)
    if name is None:
        return f"{text}{_uncontrolled(row, here)}, {_tested(row, pictures)}.{_trained(row, here)}"
    change, control = row.against[name], control_text(name, here[name].channels)
    return (
        f"{text}, {change.percent(sign=True)} points from {control}: {_word(change)}, {_tested(row, pictures)}, which "
        f"resolve some {100 * change.resolves:.2f} points.{_trained(row, here, name)}"
    )


def _uncontrolled(row: SayRow, here: Mapping[str, SayRow]) -> str:
    if any(c in here for c in CONTROLS if c != row.kind):
        return "; the same command says how far from the fine-tuned controls, which an earlier version did not"
    kinds = " or ".join(c for c in CONTROLS if c != row.kind)
    return f"; no control that was fine-tuned alike was measured (kind {kinds})"


def control_text(name: str, channels: int) -> str:
    """A control of `CONTROLS` in words, with its number of maps."""
    text = CONTROLS[name].format(channels)
    return text.replace(" maps ", " map ") if channels == 1 else text


def _channels(row: SayRow) -> str:
    what = "concept" if row.kind in NAMED else "map"
    return f"{row.channels} {what}{'s' if row.channels != 1 else ''}{'' if row.kind == 'ssb' else f' ({row.kind})'}"


def _tested(row: SayRow, pictures: int) -> str:
    return f"on {pictures} test pictures in {row.miou.groups} groups"


def _trained(row: SayRow, here: Mapping[str, SayRow], told: str = "") -> str:
    """The network as it was, whose difference is not the bottleneck's alone."""
    text = f" As it was trained, the network has {100 * here['intact'].miou.value:.2f} %"
    if "tuned" not in here:
        return f"{text}; what the fine-tuning alone adds to it was not measured (kind tuned)."
    text += f", and {100 * here['tuned'].miou.value:.2f} % after the same fine-tuning without a bottleneck"
    if told == "tuned" or "tuned" not in row.against:
        return f"{text}."
    return f"{text}, from which it is {row.against['tuned'].percent(sign=True)} points."


def _word(change: Interval) -> str:
    return "a loss" if change.high < 0 else "a gain" if change.low > 0 else "no significant difference"


def _inspected(row: SayRow) -> str:
    """The AUiC beside what noise, and a channel that is always on, reach."""
    seen = row.extras.get("inspection")
    if not seen:
        return ""
    where = " on Broden+'s validation pictures" if on_broden(row) else ""
    text = f" AUiC{where} {seen['auic']:.3f}"
    if "noise" not in seen:
        return f"{text}; what noise reaches was not measured by the version that ran these cells."
    noise, draws = seen["noise"], seen["noise"]["draws"]
    others = "".join(f", {LIKE[k]} {seen['auic'] - v[0]:.3f}" for k, v in seen["against"].items())
    return (
        f"{text}{ends(seen['interval'])}, {_above(seen)}: {_of_noise(noise['channels'])} "
        f"{noise['auic']:.3f} ({min(draws):.3f} to {max(draws):.3f} in {len(draws)} draws), one that is always on "
        f"{seen['commonest']['auic']:.3f}{others}.{_own(seen)}"
    )


def _of_noise(channels: int) -> str:
    return f"{channels} channels of noise reach" if channels > 1 else "a channel of noise reaches"


def _above(seen: Mapping[str, Any]) -> str:
    """Whether an AUiC says anything: by the lower ends of its differences from both baselines."""
    noise = seen["noise"]
    margins = {
        "noise": _lowest(noise["above"]) - (max(noise["draws"]) - noise["auic"]),  # above the luckiest draw, too
        "a channel that is always on": _lowest(seen["commonest"]["above"]),
    }
    missed = [name for name, margin in margins.items() if not margin > 0]
    return f"not above {' or '.join(missed)}" if missed else "above noise and above a channel that is always on"


def _lowest(difference: Sequence[float | None]) -> float:
    """The lower end; of a single group of pictures the value itself."""
    value, low, _ = difference
    return float(value or 0.0) if low is None else low


def _own(seen: Mapping[str, Any]) -> str:
    if "named" not in seen:
        return ""
    own = seen["named"]
    value, *interval = own["iou"]
    word = "more" if _lowest(own["above"]) > 0 else "not more"
    return (
        f" On average a channel overlaps with the concept that it is named after by {value:.3f}{ends(interval)}, "
        f"{word} than if it were always on ({own['always on']:.3f})."
    )


def ends(interval: Sequence[float | None]) -> str:
    """An interval; nothing where there is none."""
    low, high = interval
    return "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"


def on_broden(row: SayRow) -> bool:
    """Whether a row's inspectability was measured on pictures of Broden+."""
    return row.extras.get("inspection", {}).get("on") == ON_BRODEN


def _sure(intact: SayRow, row: SayRow) -> str:
    if "confidence" not in intact.extras or "concepts" not in row.extras.get("confidence", {}).get("measures", {}):
        return ""
    plain = intact.extras["confidence"]["measures"]
    own = row.extras["confidence"]["measures"]
    return (
        f" At a threshold set for {100 * row.extras['confidence']['accuracy']:.0f} % accuracy on validation pictures, "
        f"the concepts' confidence answers {_answered(own['concepts'])}, the bottleneck's max softmax "
        f"{_answered(own['max softmax'])}, the intact network's {_answered(plain['max softmax'])}."
    )


def _answered(measure: Mapping[str, Any]) -> str:
    right = measure["accuracy"]
    text = f"{100 * measure['coverage']:.1f} % of the test pixels"
    return text if right is None else f"{text} ({100 * right:.1f} % of them right)"


def failure_lines(
    failures: Sequence[Mapping[str, Any]], classes: Sequence[str], names: Sequence[str]
) -> list[dict[str, Any]]:
    """The commonest failures, and in which concepts their pixels differ from those that are right."""
    return [
        {
            "true": classes[f["true"]],
            "predicted": classes[f["said"]],
            "pixels": f["pixels"],
            "share of the class": f"{100 * f['share']:.1f} %",
            "why": "; ".join(reason_text(r, names) for r in f["reasons"][:REASONS]),
        }
        for f in failures[:FAILURES]
    ]


def reason_text(reason: Mapping[str, Any], names: Sequence[str]) -> str:
    """How one concept differs, in words."""
    text = f"{names[reason['concept']]} {reason['wrong']:.2f} instead of {reason['right']:.2f}"
    there = reason["there"]
    return text if there is None else f"{text} (labelled there: {there:.2f})"
