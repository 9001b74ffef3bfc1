"""Every protocol's cells and numbers stay what the first version stored (tests/golden/), and its folders resume."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

import golden_runs
from golden_runs import RUNS
from whatwhere.lab.provenance import hardware

GOLDEN = Path(__file__).parent / "golden"
# What another day, machine or wording may change.
PASSING = {"provenance", "notes", "conclusion", "text", "latency_ms", "seconds", "hardware", "versions", "label"}
STORED = json.loads((GOLDEN / "machine.json").read_text())
SAME_MACHINE = {
    "cpu": hardware()["cpu"],
    "capability": torch.backends.cpu.get_cpu_capability(),
    "torch": torch.__version__,
} == STORED
# Rounding differs between processors, and training multiplies it; a count of pictures then differs by a few.
NEAR = 1e-6 if SAME_MACHINE else 0.06
BF16 = {"location"}  # trained in bfloat16, which processors with units for it round otherwise


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are added up in another order by several
    yield
    torch.set_num_threads(before)


def files_of(folder: Path) -> dict[str, object]:
    kept = [f for f in folder.rglob("*.json") if f.name in golden_runs.SHOWN or f.parent.name == "cells"]
    return {str(f.relative_to(folder)): json.loads(f.read_text()) for f in kept}


def differences(expected, seen, where: str = "") -> list[str]:
    """Where two plain values differ; what the expected one does not have is not looked at."""
    if isinstance(expected, dict) and isinstance(seen, dict):
        keys = [k for k in expected if k not in PASSING]
        return [d for k in keys for d in differences(expected[k], seen.get(k, "(missing)"), f"{where}/{k}")]
    if isinstance(expected, list) and isinstance(seen, list) and len(expected) == len(seen):
        return [
            d for i, (a, b) in enumerate(zip(expected, seen, strict=True)) for d in differences(a, b, f"{where}/{i}")
        ]
    if isinstance(expected, float | int) and isinstance(seen, float | int):
        near = math.isclose(expected, seen, rel_tol=NEAR, abs_tol=NEAR)
        return [] if near else [f"{where}: {expected} -> {seen}"]
    packed = isinstance(expected, str) and expected.startswith("eN") and not SAME_MACHINE  # zlib, base64
    return [] if expected == seen or packed else [f"{where}: {str(expected)[:80]} -> {str(seen)[:80]}"]


def test_a_changed_number_is_seen():
    result = json.loads((GOLDEN / "curve" / "result.json").read_text())
    changed = json.loads(json.dumps(result))
    changed["points"][1]["accuracy"]["mean"] += 0.1
    changed["provenance"] = changed["notes"] = None
    assert [d.split(":")[0] for d in differences(result, changed)] == ["/points/1/accuracy/mean"]
    assert differences(result, {**result, "points": []})


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_cells_and_numbers_stay(name, tmp_path):
    if name in BF16:
        golden_runs.run_without_units(name, tmp_path)
    else:
        RUNS[name](tmp_path)
    expected, seen = files_of(GOLDEN / name), files_of(tmp_path)
    assert set(expected) <= set(seen)
    for file, content in expected.items():
        if SAME_MACHINE or name not in BF16 or file.endswith("study.json"):
            assert differences(content, seen[file], file) == []


@pytest.mark.parametrize("name", RUNS)
def test_a_folder_of_the_first_version_resumes(name, tmp_path):
    shutil.copytree(GOLDEN / name, tmp_path / name)
    stored = {f: f.stat().st_mtime_ns for f in (tmp_path / name).rglob("cells/*.json")}
    RUNS[name](tmp_path / name)
    assert all(file.stat().st_mtime_ns == at for file, at in stored.items())
    if stored:
        assert set((tmp_path / name).rglob("cells/*.json")) == set(stored)
    result = GOLDEN / name / "result.json"
    assert differences(json.loads(result.read_text()), json.loads((tmp_path / name / "result.json").read_text())) == []


def test_costs_stay():
    assert differences(json.loads((GOLDEN / "cost.json").read_text()), golden_runs.cost()) == []
