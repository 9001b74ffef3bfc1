"""docs/claims.md: every claim beside what was measured, from the results that are kept here.

python reproductions/claims.py            # write it
"""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "claims.md"
VERDICTS = ("reproduced", "confirmed", "not confirmed", "contradicted", "question")
HUNDRED = ("points", "%")  # units of what results hold as shares
ESTIMATE = re.compile(r"([-+]?[\d.]+) ?(\[[-+\d., ]+\])?")
HEAD = """# Claims

What was claimed, and what was measured here. Written by `python reproductions/claims.py` from the results that are kept
in `reproductions/`: the column *ours* is never typed, and a test fails if the page is older than they are. Intervals
are 95 %; what each covers stands in the result. The last column leads to the command and to the page that tells the
whole. The verdicts:

* **reproduced**: the number; **confirmed**: the statement, with another number; **not confirmed**: our measurement does
  not show it; **contradicted**: it shows otherwise.
* **question**: nothing was claimed, the toolkit asked.

Networks here are smaller and trainings shorter than the papers': the folder's own page says how, and what may explain a
difference.
"""
COLUMNS = ("paper", "what", "published", "ours", "n", "verdict", "hardware", "where")


def estimate_of(claim: Mapping[str, Any]) -> tuple[str, str]:
    """What was measured, with its interval, and of how many.

    Args:
        claim: an entry of claims.yaml.

    Raises:
        ValueError: unless exactly one row of the result is meant, and holds a number with an interval.
    """
    file = HERE / claim["from"]
    return _of_table(file, claim) if file.suffix == ".csv" else _of_result(file, claim)


def _of_result(file: Path, claim: Mapping[str, Any]) -> tuple[str, str]:
    where = dict(claim["where"])
    found: Any = _only(json.loads(file.read_text(encoding="utf-8"))[where.pop("rows")], where, file)
    for key in claim["value"].split(".", 1):
        found = found[key]
    factor, digits = (100, 2) if claim.get("unit") in HUNDRED else (1, 3)
    mean, low, high = (f"{factor * found[key] + 0.0:.{digits}f}" for key in ("mean", "low", "high"))
    repeats = found["repeats"]
    return f"{mean} [{low}, {high}]", f"{found['n']:,} pictures" + (
        f", {repeats} draws or seeds" if repeats > 1 else ""
    )


def _of_table(file: Path, claim: Mapping[str, Any]) -> tuple[str, str]:
    with file.open(encoding="utf-8", newline="") as lines:
        row = _only(list(csv.DictReader(lines)), claim["where"], file)
    interval = row.get(f"{claim['value']} 95 %", "")
    shown = ESTIMATE.fullmatch(f"{row[claim['value']]} {interval}".strip())
    if not shown or not shown[2]:
        raise ValueError(f"{file}: {claim['value']!r} of {claim['where']} is no number with an interval.")
    n = f"{row['pictures']} pictures" if "pictures" in row else ""
    return f"{shown[1].removeprefix('+')} {shown[2].replace('+', '')}", n


def _only(rows: list[dict[str, Any]], where: Mapping[str, Any], file: Path) -> dict[str, Any]:
    found = [row for row in rows if all(row.get(key) == value for key, value in where.items())]
    if len(found) != 1:
        raise ValueError(f"{file}: {len(found)} rows are {dict(where)}.")
    return found[0]


def hardware_of(claim: Mapping[str, Any], folder: Mapping[str, str]) -> str:
    """As the result says, or the folder's page where a table is all that is kept."""
    file = HERE / claim["from"]
    if file.suffix == ".csv":
        return folder["hardware"]
    seen = json.loads(file.read_text(encoding="utf-8"))["provenance"]["hardware"]
    cpu = re.sub(r"\(R\)| Processor", "", seen["cpu"])
    return ", ".join(seen["gpus"]) or f"{cpu}, {seen['cores']} cores"


def page() -> str:
    """The whole page."""
    told = yaml.safe_load((HERE / "claims.yaml").read_text(encoding="utf-8"))
    rows = [_row(claim, told["folders"]) for claim in told["claims"]]
    lines = [f"| {' | '.join(cells)} |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows)]
    used = dict.fromkeys(_folder(claim) for claim in told["claims"])
    commands = [_command(name, told["folders"][name]["command"]) for name in used]
    return "\n".join([HEAD, *lines, "", "## Commands", "", "\n\n".join(commands), ""])


def _row(claim: Mapping[str, Any], folders: Mapping[str, Mapping[str, str]]) -> list[str]:
    ours, n = estimate_of(claim)
    name, unit = _folder(claim), claim.get("unit", "")
    published = f"{claim['published']:g} {unit}".strip() if "published" in claim else ""
    n = n or folders[name]["n"]
    hardware = hardware_of(claim, folders[name])
    ours = f"{ours} {unit}".strip()
    word, colon, rest = claim["verdict"].partition(":")
    verdict, link = f"**{word}**{colon}{rest}", f"[{name}](#{name.replace('/', '')})"
    return [claim["paper"], claim["claim"], published, ours, n, verdict, hardware, link]


def _folder(claim: Mapping[str, Any]) -> str:
    return Path(claim["from"]).parent.as_posix()


def _command(name: str, command: str) -> str:
    card = f"../reproductions/{name.partition('/')[0]}/README.md"
    return f"### {name}\n\n```sh\n{command}\n```\n\n[The whole of it]({card})."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
