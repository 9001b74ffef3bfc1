"""What to type after an audit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from whatwhere.need.studies.result import GAP_FC

if TYPE_CHECKING:
    from whatwhere.audits.measured import Measured

COMMAND, LONGER = "whatwhere say compare ", 4  # in why a part is missing; halves the intervals


def next_commands(found: Measured) -> dict[str, str]:
    """Commands by what they are for: the smaller network, else how to get one, concepts, and narrower intervals."""
    return dict([*_smaller(found), *_concepts(found), *_longer(found)])


def _smaller(found: Measured) -> Iterator[tuple[str, str]]:
    need, words = found.need, _words(found)
    advice = need.recommendation if need else None
    if need is None or advice is None:
        return
    if advice.site:
        yield from ((label, c) for label, c in need.commands.items() if f" {advice.site} " in f"{label} ")
        return
    drops = {p: p.drop.mean for p in need.points if p.method == GAP_FC and p.drop}
    tunes = found.measured.name in RECOVERED and "train" in found.data.get("sizes", ())
    if words and drops and tunes:
        site = min(drops, key=lambda p: drops[p]).site
        label = f"See how much fine-tuning brings back where a collapse costs least ({site})"
        yield label, f"whatwhere need recover {words} --sites {shlex.quote(site)} --out recover"


RECOVERED = ("accuracy", "top5", "agreement")


def _concepts(found: Measured) -> Iterator[tuple[str, str]]:
    _, command, rest = found.left_out.get("say", "").partition(COMMAND)
    if command and rest.startswith("--"):
        yield "Make it say what is where, in concepts", command + rest


def _longer(found: Measured) -> Iterator[tuple[str, str]]:
    if words := _words(found):
        minutes = LONGER * found.settings["minutes"]
        yield "Intervals half as wide", f"whatwhere audit {words} --minutes {minutes:g} --out audit-longer"


def _words(found: Measured) -> str:
    """The network and the pictures; "" of an audit that does not say, or was given them as objects."""
    return " ".join(map(shlex.quote, found.settings.get("words", ())))
