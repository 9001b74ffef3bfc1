"""Whether scenes have the labels that a study needs: several classes, and concepts both present and absent."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from whatwhere.data.scenes import SceneSplit
from whatwhere.errors import InputError
from whatwhere.label_maps import IGNORE
from whatwhere.say.concepts import ABSENT, PRESENT, ConceptSource
from whatwhere.say.studies.kinds import fit_rows

SHOWN = 12  # names in a note


def check_classes(train: SceneSplit, test: SceneSplit, validation: SceneSplit | None = None) -> None:
    """Refuse label maps of which nothing can be learned or measured.

    Args:
        train: split to learn from.
        test: to measure on.
        validation: to set thresholds on, if there is one.

    Raises:
        InputError: if a split has no labelled pixel, or the training or test pictures a single class.
    """
    for split, least in ((train, 2), (test, 2), *([(validation, 1)] if validation else [])):
        seen = _classes(split, least)
        if len(seen) < least:
            what = f"only {split.classes[seen[0]]!r}" if seen else f"no class at all (every pixel is {IGNORE})"
            raise InputError(
                f"data: the label maps of split {split.name!r} ({len(split)} pictures) hold {what}; give maps with "
                f"{'several classes' if least > 1 else 'labelled pixels'}."
            )


def _classes(split: SceneSplit, enough: int) -> list[int]:
    """Classes that occur, as they are found; no more maps are read than needed."""
    seen: set[int] = set()
    for labels in split.class_maps(range(len(split))):
        seen |= set(labels.unique().tolist()) - {IGNORE}
        if len(seen) >= enough:
            break
    return sorted(seen)


def never_both(source: ConceptSource, train: SceneSplit) -> dict[str, str]:
    """Concepts for which no head can be fitted, and what they never are: "present" or "absent".

    Looked for in the pictures that heads are fitted on, until all concepts were seen both ways.

    Args:
        source: of the concepts.
        train: the training pictures.
    """
    seen = torch.zeros(2, len(source.names), dtype=torch.bool)
    for picture, labels in train.rows(fit_rows(train.groups, calibrating=False).tolist()):
        maps = source(picture, labels).flatten(1)
        seen |= torch.stack([(maps == PRESENT).any(1), (maps == ABSENT).any(1)])
        if bool(seen.all()):
            break
    missing = zip(source.names, seen.T.tolist(), strict=True)
    return {name: "absent" if present else "present" for name, (present, absent) in missing if not (present and absent)}


def left_out_note(missing: Mapping[str, str]) -> list[str]:
    """That concepts are left out, and why; nothing if none are."""
    found = []
    for word in ("present", "absent"):
        names = [name for name, never in missing.items() if never == word]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        if names:
            text = f"{', '.join(names[:SHOWN])}{more}"
            found.append(f"Concepts left out, as the training pictures show them never {word}: {text}.")
    return found
