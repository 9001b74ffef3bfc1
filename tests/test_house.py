"""Who may call whom, and what the house promises of every file."""

import ast
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import networkx
import pytest

import whatwhere
from whatwhere import wings

SOURCE = Path(whatwhere.__file__).parent
WINGS = ("need", "hold", "use", "say")
FOR_INSTRUMENTS = {
    "network",
    "site",
    "site_table",
    "depth",
    "graph",
    "layers",
    "interventions",
    "descent",
    "surgery",
    "errors",
    "label_maps",
    "maps",
}
FRONT = {"cli", "arguments", "commands", "completion", "wings"}
UPSTAIRS = {*FRONT, *WINGS, "audits"}  # audits ask all wings
FILES = sorted(SOURCE.rglob("*.py"))
NAMED = {f: ".".join(("whatwhere", *f.relative_to(SOURCE).with_suffix("").parts)) for f in FILES}
FACES = ["whatwhere", *(f"whatwhere.{w}" for w in WINGS), "whatwhere.data", "whatwhere.models"]


def imported(file: Path, *, at_once: bool = False) -> set[str]:
    """The modules of this package that a file imports; `at_once`: those that importing it imports."""
    modules = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in list(_at_top(tree) if at_once else ast.walk(tree)):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{a.name}" for a in node.names}
            modules |= {node.module, *(inner & set(NAMED.values()))}
        if isinstance(node, ast.Import):
            modules |= {a.name for a in node.names}
    return {m for m in modules if m.startswith("whatwhere.")}


def _at_top(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in tree.body:
        yield from [node] if not isinstance(node, ast.If) else node.orelse  # not `if TYPE_CHECKING`


def rooms_imported(file: Path) -> set[str]:
    return {m.split(".")[1] for m in imported(file)}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def is_instrument(file: Path) -> bool:
    parts = file.relative_to(SOURCE).parts
    return parts[0] in WINGS and "studies" not in parts and parts[-1] not in ("__init__.py", "commands.py")


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, without its docstring."""
    first = function.body[0]
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and len(function.body) > 1
    return (function.end_lineno or 0) - (function.body[1] if described else first).lineno + 1


@pytest.mark.parametrize("file", [f for f in FILES if is_instrument(f)], ids=lambda f: NAMED[f])
def test_an_instrument_knows_networks_only(file):
    assert rooms_imported(file) <= {*FOR_INSTRUMENTS, room_of(file)}
    assert not [m for m in imported(file) if ".studies" in m or m.endswith(".commands")]


@pytest.mark.parametrize(
    "file", [f for f in FILES if room_of(f) not in {*UPSTAIRS, "__init__", "__main__"}], ids=lambda f: NAMED[f]
)
def test_the_lab_and_the_ground_floor_never_import_upward(file):
    assert not rooms_imported(file) & UPSTAIRS


def test_wings_do_not_know_the_front_door():
    assert not [f for f in FILES if room_of(f) in WINGS and rooms_imported(f) & {"cli", "arguments", "wings"}]


def test_wings_do_not_know_each_others_instruments():
    """A joint study may import another wing's studies, and what its face offers."""
    for file in FILES:
        others = [m for m in imported(file) if m.split(".")[1] in WINGS and m.split(".")[1] != room_of(file)]
        if room_of(file) in WINGS:
            assert not [m for m in others if len(m.split(".")) > 2 and ".studies" not in m], NAMED[file]


def test_no_circle_among_files():
    """Not even one that is broken by an import inside a function or for types only."""
    names = {n.removesuffix(".__init__") for n in NAMED.values()}
    graph = networkx.DiGraph((n, m) for f, n in NAMED.items() for m in imported(f) if m in names and m != n)
    assert [c for c in networkx.strongly_connected_components(graph) if len(c) > 1] == []


def test_no_function_bears_the_name_of_a_module():
    for face in FACES:
        package = import_module(face)
        folder = Path(package.__path__[0])
        modules = {p.stem for p in folder.glob("*.py")} | {p.name for p in folder.iterdir() if p.is_dir()}
        offered = {n for n in package.__all__ if not hasattr(getattr(package, n), "__path__")}
        assert not offered & modules, face


def test_every_name_of_a_face_is_there():
    for face in FACES:
        package = import_module(face)
        assert package.__all__
        assert all(getattr(package, name) is not None for name in package.__all__)


LIGHT = [
    "import whatwhere",
    "from whatwhere import need, hold, use, say, cli, wings, arguments",
    "from whatwhere import wings, arguments; [arguments.parser_of('x', wings.loaded(w)) for p in wings.WINGS "
    "for w in wings.commands_of(p).values()]",
]


@pytest.mark.parametrize("code", LIGHT, ids=["import", "wings", "parsers"])
def test_help_and_import_load_no_torch(code):
    heavy = "[m for m in ('torch', 'numpy', 'scipy', 'matplotlib', 'pandas', 'timm', 'datasets') if m in sys.modules]"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print({heavy})"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_commands_import_nothing_heavy_at_the_top():
    for package in wings.WINGS:
        for where in wings.commands_of(package).values():
            module = import_module(where.partition(":")[0])
            seen = imported(Path(str(module.__file__)), at_once=True)
            light = {"errors", "lab", "training", "files", "wings"}
            assert {m.split(".")[1] for m in seen} <= {*light, package.split(".")[1]}, where


def test_files_and_functions_are_short():
    lengths = sorted(body(f) for file in FILES for f in functions(file))
    assert not [NAMED[f] for f in FILES if len(f.read_text(encoding="utf-8").splitlines()) > 400]
    assert statistics.median(lengths) <= 5
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 14
    assert lengths[-1] <= 45


def test_formatting_is_the_formatters():
    every = [*FILES, *(SOURCE.parent.parent / "tests").rglob("*.py")]
    assert not [f for f in every if "fmt: " + "skip" in f.read_text(encoding="utf-8")]


def test_nothing_is_loaded_that_could_run_code():
    text = "".join(f.read_text(encoding="utf-8") for f in FILES)
    assert "weights_only=False" not in text
    assert "allow_pickle=True" not in text
    assert "pickle.load(" not in text


def test_tests_mirror_the_sources():
    """Every test file bears the name of a source file, but for those that look at the house as a whole."""
    tests = SOURCE.parent.parent / "tests"
    whole = {"test_house.py", "test_golden.py", "test_docs.py", "test_readme.py", "test_coverage.py"}
    lone = []
    for file in tests.rglob("test_*.py"):
        where = file.relative_to(tests)
        name = where.name.removeprefix("test_").replace("_in_browser", "")
        beside = where.parts[0] in ("reproductions", "benchmarks") and [*(tests.parent / where.parts[0]).rglob(name)]
        if where.name not in whole and not (SOURCE / where.parent / name).exists() and not beside:
            lone.append(str(where))
    assert lone == []


def test_every_source_with_something_to_test_has_a_test_file_of_its_own():
    """All but those that only give names: faces, the way in by `python -m`, constants, options without functions."""
    tests = SOURCE.parent.parent / "tests"
    missing = []
    for file in FILES:
        where = file.relative_to(SOURCE)
        needed = file.name not in ("__init__.py", "__main__.py") and any(functions(file))
        if needed and not (tests / where.parent / f"test_{where.name}").exists():
            missing.append(str(where))
    assert missing == []
