"""Who may call whom."""

import ast
from pathlib import Path

import pytest

import whatwhere

SOURCE = Path(whatwhere.__file__).parent
INSTRUMENTS = ("dependency", "position", "recalibration", "bottleneck")
FOR_INSTRUMENTS = {"network", "sites", "layers", "interventions", "surgery", "errors"}
UPSTAIRS = {"cli", "studies", *INSTRUMENTS}
FILES = sorted(SOURCE.rglob("*.py"))


def rooms_imported(file: Path) -> set[str]:
    """The parts of this package that a file imports."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        if isinstance(node, ast.Import):
            modules.update(a.name for a in node.names)
    return {m.split(".")[1] for m in modules if m.startswith("whatwhere.")}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", [f for f in FILES if room_of(f) in INSTRUMENTS], ids=lambda f: f.name)
def test_an_instrument_knows_networks_only(file):
    assert rooms_imported(file) <= {*FOR_INSTRUMENTS, room_of(file)}


@pytest.mark.parametrize(
    "file", [f for f in FILES if room_of(f) not in {*UPSTAIRS, "__init__", "__main__"}], ids=lambda f: f.name
)
def test_the_ground_floor_never_imports_upward(file):
    assert not rooms_imported(file) & UPSTAIRS


def test_studies_do_not_know_the_command():
    assert not [f for f in FILES if room_of(f) == "studies" and "cli" in rooms_imported(f)]


def test_no_file_is_longer_than_four_hundred_lines():
    assert not [f for f in FILES if len(f.read_text(encoding="utf-8").splitlines()) > 400]


def test_nothing_is_loaded_that_could_run_code():
    text = "".join(f.read_text(encoding="utf-8") for f in FILES)
    assert "weights_only=False" not in text
    assert "allow_pickle=True" not in text
    assert "pickle.load(" not in text
