"""What to type after an audit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from whatwhere.need.studies.result import GAP_FC

if TYPE_CHECKING:
    from whatwhere.audits.measured import Measured

COMMAND = "whatwhere say compare --model "  # in why a part is missing
SAVED = "ww.save"  # what must be done before it, in Python
LONGER = 4  # times the time
RECOVERED = ("accuracy", "top5", "agreement")  # scores that `need recover` takes


def next_commands(found: Measured) -> dict[str, str]:
    """Commands by what they are for: the smaller network, else how to get one, concepts, and narrower intervals."""
    return dict([*_smaller(found), *_concepts(found), *_longer(found)])


def _smaller(found: Measured) -> Iterator[tuple[str, str]]:
    need, words = found.need, _words(found, "words")
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


def _concepts(found: Measured) -> Iterator[tuple[str, str]]:
    before, command, rest = found.left_out.get("say", "").partition(COMMAND)
    if command and SAVED not in before and found.settings.get("words"):
        yield "Make it say what is where, in concepts", command + rest


def _longer(found: Measured) -> Iterator[tuple[str, str]]:
    """Where there are pictures left: with all of them more time makes nothing narrower."""
    seen, all_of_them = found.need.intact[0].score.n if found.need else 0, found.settings.get("pictures", 0)
    words = _words(found, "words", "judged")
    if words and 0 < seen < all_of_them:
        more, minutes = min(LONGER * seen, all_of_them), LONGER * found.settings["minutes"]
        label = f"Narrower intervals, from some {more:,} pictures instead of {seen:,}"
        yield label, f"whatwhere audit {words} --minutes {minutes:g} --out audit-longer"


def _words(found: Measured, *kinds: str) -> str:
    """The network and the pictures; "" of an audit that does not say, or was given them as objects."""
    return " ".join(shlex.quote(word) for kind in kinds for word in found.settings.get(kind, ()))
