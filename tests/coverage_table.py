"""docs/coverage.md: every operation on every network of the table, each cell behind its check.

python tests/coverage_table.py resnet18     # checks the networks whose names hold this, and prints their cells
python tests/coverage_table.py              # writes the page of what `make coverage` measured
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from coverage_checks import CHECKS, Refused
from coverage_networks import LISTED, Entry, settled
from whatwhere.errors import InputError
from whatwhere.files import read_json, write_json

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
CELLS = Path(os.environ.get("WHATWHERE_COVERAGE", "coverage-cells"))
WORKS, IN_PART, REFUSED, WRONG = "works", "in part", "refused", "wrong"
Cell = Mapping[str, Any]
HEAD = """# Which operation works on which network

Made by `make coverage` (`tests/test_coverage.py`); each *works* stands behind a check on random pictures against an
oracle that knows neither the graph nor the surgery (`tests/coverage_checks.py` says what, in a sentence each). Networks
have random weights, and batch norms the statistics of random pictures; branches that begin at zero begin at random. Operations
"from" a cut are tried at three cuts, spread over the network. A number after a cell counts sites, cuts, gates, or
operators that pad with zeros. *Export* is to ONNX, under onnxruntime: of the network collapsed at its middle cut, where
that works.

"""


def measure(entry: Entry) -> dict[str, Cell]:
    """Every cell of a network, as stored or checked now."""
    file = CELLS / f"{entry.name.replace('/', '-').replace(' ', '-')}.json"
    known: dict[str, Cell] = read_json(file) if file.exists() else {}
    for what in CHECKS:
        if what not in known:
            known[what] = checked(entry, what)
            write_json(file, known)
    return known


def checked(entry: Entry, what: str) -> dict[str, Any]:
    """One cell."""
    started = time.monotonic()
    status, said = _outcome(entry, what)
    said = re.sub(r"'[^' ]*/(net\.\w+)'", r"'\1'", said)  # files of a moment
    return {"status": status, "said": said, "seconds": round(time.monotonic() - started, 1)}


def _outcome(entry: Entry, what: str) -> tuple[str, str]:
    net = settled(entry)
    try:
        return WORKS, CHECKS[what](net, entry.size)
    except Refused as error:
        return (REFUSED if str(error).startswith("everywhere") else IN_PART), " ".join(str(error).split())
    except InputError as error:
        return REFUSED, " ".join(str(error).split())
    except Exception as error:  # whatever else comes out is a fault of ours
        at = traceback.extract_tb(error.__traceback__)[-1]
        return (
            WRONG,
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]} ({Path(at.filename).name}:{at.lineno})",
        )


def page(rows: Mapping[str, Mapping[str, Cell]]) -> str:
    """The document, of the networks that were measured."""
    entries = [e for e in LISTED if e.name in rows]
    lines = [HEAD.rstrip(), "", *_totals(entries, rows), "", *_table(entries, rows), "", *_reasons(entries, rows)]
    return "\n".join(lines) + "\n"


def _totals(entries: Iterable[Entry], rows: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    listed = list(entries)
    groups = {"convolutional": [e for e in listed if e.is_cnn], "all": listed}
    return [_total(name, [c for e in some for c in rows[e.name].values()], len(some)) for name, some in groups.items()]


def _total(name: str, cells: list[Cell], networks: int) -> str:
    counted = Counter(c["status"] for c in cells)
    works = 100 * counted[WORKS] / max(1, len(cells))
    rest = ", ".join(f"{counted[s]} {s}" for s in (IN_PART, REFUSED, WRONG))
    return f"* **{name}**: {networks} networks, {len(cells)} cells, {works:.1f} % work; {rest}."


def _table(entries: Iterable[Entry], rows: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    head = ["family", "network", "px", *CHECKS]
    body = [[e.family, e.name, str(e.side), *(_shown(rows[e.name][w]) for w in CHECKS)] for e in entries]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


def _shown(cell: Cell) -> str:
    number = cell["said"].split()[0] if cell["status"] == WORKS else ""
    return f"works ({number})" if number.isdigit() else f"**{WRONG}**" if cell["status"] == WRONG else cell["status"]


def _reasons(entries: Iterable[Entry], rows: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    found = [
        f"* {e.name}, {what}: {c['said']}" for e in entries for what, c in rows[e.name].items() if c["status"] != WORKS
    ]
    return ["## Why not", "", *found]


def stored() -> dict[str, dict[str, Cell]]:
    """What was measured, by network."""
    return {
        e.name: measure(e) for e in LISTED if (CELLS / f"{e.name.replace('/', '-').replace(' ', '-')}.json").exists()
    }


if __name__ == "__main__":
    if sys.argv[1:]:
        for entry in LISTED:
            if any(part in entry.name for part in sys.argv[1:]):
                cells = {what: checked(entry, what) for what in CHECKS}
                print(entry.name, json.dumps(cells, indent=1), flush=True)
    else:
        PAGE.write_text(page(stored()))
