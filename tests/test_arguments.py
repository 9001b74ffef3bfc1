"""From classes and functions to options: help, lists, switches, errors."""

import shlex
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from whatwhere import wings
from whatwhere.arguments import Docs, expected, options_of, parsed, parser_of
from whatwhere.errors import InputError
from whatwhere.lab.study import Study, loaded


@dataclass(frozen=True)
class Base:
    """A base.

    Attributes:
        first: of the base;
            two lines.
    """

    first: str


@dataclass(frozen=True)
class Example(Base, Study[Any]):
    """Do an example.

    More about it.

    Attributes:
        numbers: whole ones.
        shares: some numbers.
        names: some names.
        kind_of: a choice.
        on: a switch.
        anything: for Python alone.

    Examples:
        $ whatwhere example --first a
        $ whatwhere example --first b --numbers 1,2
    """

    kind: ClassVar[str] = "example"

    numbers: tuple[int, ...] = (0, 1)
    shares: tuple[float, ...] | None = None
    names: tuple[str, ...] = ()
    kind_of: Literal["a", "b"] = "a"
    on: bool = False
    anything: Any = None


def function(model: str, site: str | None = None, size: tuple[int, int] | None = None) -> None:
    """Do something.

    Args:
        model: of it.
        site: where.
        size: how large.
    """


def values(words: str) -> dict[str, Any]:
    return parsed("whatwhere example", Example, shlex.split(words))


def test_a_docstring_is_taken_apart():
    docs = Docs.of(Example)
    assert docs.summary == "Do an example."
    assert docs.text == "More about it."
    assert docs.options["first"] == "of the base; two lines."
    assert docs.options["numbers"] == "whole ones."
    assert docs.examples == ("whatwhere example --first a", "whatwhere example --first b --numbers 1,2")
    assert Docs.of(function).options == {"model": "of it.", "site": "where.", "size": "how large."}


def test_options_are_the_attributes_but_not_those_for_python():
    assert list(options_of(Example)) == ["first", "numbers", "shares", "names", "kind_of", "on"]
    text = parser_of("whatwhere example", Example).format_help()
    assert "--first FIRST" in text
    assert "of the base; two lines." in text
    assert "whole ones. (default: 0,1)" in text
    assert "--workers" in text
    assert "--anything" not in text
    assert "--engine" in text  # by name; an object in Python


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("--numbers 3,4,5", {"numbers": (3, 4, 5)}),
        ("--numbers 3", {"numbers": (3,)}),
        ("--numbers [3,4]", {"numbers": (3, 4)}),
        ("--numbers=3,4", {"numbers": (3, 4)}),
        ("--shares 0.31,1", {"shares": (0.31, 1.0)}),
        ("--names 'layer4*:,last 30%'", {"names": ("layer4*:", "last 30%")}),
        ("--names 'part: a=b'", {"names": ("part: a=b",)}),
        ("--on", {"on": True}),
        ("--on true --numbers 1", {"on": True, "numbers": (1,)}),
        ("--on --numbers 1", {"on": True, "numbers": (1,)}),
        ("--on false", {"on": False}),
        ("--kind-of b", {"kind_of": "b"}),
        ("--out x --workers 2 --fold-only", {"out": "x", "workers": 2, "fold_only": True}),
    ],
)
def test_values(words, found):
    every = values(f"--first a {words}")
    assert {k: every[k] for k in found} == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--first a --number 3", "there is no option --number. Did you mean --numbers?"),
        ("--first a --numbers 3,x", "give whole numbers with commas"),
        ("--first a --shares a", "--shares=.*: give numbers with commas"),
        ("--first a --kind_of c", "--kind_of=c: give one of a, b"),
        ("--first a --workers many", "--workers=many: give a whole number"),
        ("--first a --on maybe", "--on=maybe: give true or false"),
        ("--first a --numbers", "--numbers has no value"),
        ("--numbers 1", "give --first. See whatwhere example --help"),
        ("--first a stray", "stray"),
    ],
)
def test_errors_name_the_option_and_the_fix(words, message):
    with pytest.raises(InputError, match=message):
        values(words)


def test_a_configuration_file_gives_options_by_name(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("first: a\nnumbers: [7, 8]\nworkers: 3\n")
    every = values(f"--config {file} --workers 2")
    assert (every["first"], every["numbers"], every["workers"]) == ("a", (7, 8), 2)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("numbers: 3,4,5", {"numbers": (3, 4, 5)}),
        ("numbers: 3", {"numbers": (3,)}),
        ("numbers: [3, 4]", {"numbers": (3, 4)}),
        ("numbers:\n  - 3\n  - 4", {"numbers": (3, 4)}),
        ("names: []", {"names": ()}),
        ("names: layer4*:, last 30%", {"names": ("layer4*:", "last 30%")}),
        ("names: [3, on, 010]", {"names": ("3", "on", "010")}),
        ("shares: 0.31,1", {"shares": (0.31, 1.0)}),
        ("shares: null", {"shares": None}),
        ("shares:", {"shares": None}),
        ("shares: [1e-3]", {"shares": (0.001,)}),
        ("on: yes", {"on": True}),
        ("on: False", {"on": False}),
        ("kind-of: b", {"kind_of": "b"}),
        ("fold-only: true\nworkers: 2", {"fold_only": True, "workers": 2}),
        ("device: 010", {"device": "010"}),  # a name, no octal number
        ("weights_folder: ~", {"weights_folder": None}),
    ],
)
def test_values_of_a_file_are_those_of_the_command_line(tmp_path, line, found):
    file = tmp_path / "study.yaml"
    file.write_text(line)
    every = values(f"--first a --config {file}")
    assert {k: every[k] for k in found} == found


def test_the_command_line_is_stronger_wherever_it_stands_and_a_later_file_than_an_earlier_one(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("first: a\nnumbers: 1,2\nworkers: 1\n")
    two.write_text("workers: 2\n")
    every = values(f"--numbers 3 --config {one} --config={two}")
    assert (every["first"], every["numbers"], every["workers"]) == ("a", (3,), 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("number: 3", r"config='.*study.yaml': there is no option number. Did you mean numbers\? Options: first, num"),
        ("config: x", "there is no option config"),
        ("numbers: 3,x", r"^config='.*study.yaml': numbers=x: give whole numbers with commas"),
        ("numbers: [3, x]", r"^config='.*study.yaml': numbers=.*: give whole numbers with commas"),
        ("numbers: [[3]]", r"study.yaml': numbers=\[\[\"3\"\]\]: give whole numbers with commas"),
        ("numbers: {a: 1}", r"study.yaml': numbers=\{\"a\": \"1\"\}: give whole numbers"),
        ("numbers:", "study.yaml': numbers has no value; give whole numbers with commas, or leave it out"),
        ("kind_of: c", r"^config='.*study.yaml': kind_of=c: give one of a, b"),
        ("on: maybe", r"^config='.*study.yaml': on=maybe: give true or false"),
        ("workers: many", r"^config='.*study.yaml': workers=many: give a whole number"),
        ("device: [cpu]", r"study.yaml': device=\[\"cpu\"\]: give text"),
        ("just words", "must hold options by name"),
        ("a: b: c", "is not a YAML file"),
        ("\xff", "cannot be read"),
        (None, r"config='.*study.yaml' cannot be read \(.*No such file"),
    ],
)
def test_errors_of_a_file_name_it_the_key_and_the_fix(tmp_path, content, message):
    file = tmp_path / "study.yaml"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as seen:
        values(f"--first a --config {file}")
    assert "\n" not in str(seen.value)


def test_an_option_of_the_command_line_is_named_as_there_beside_a_file(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("workers: many\n")
    with pytest.raises(InputError, match=r"^--workers=some: give a whole number"):
        values(f"--first a --config {file} --workers some")


def test_names_that_look_like_numbers_are_names():
    assert values("--first a --names 3,0.50,x")["names"] == ("3", "0.50", "x")


def test_what_is_expected_in_words():
    assert expected(int | None) == "a whole number"
    assert expected(tuple[str, ...] | None) == "names with commas"
    assert expected(tuple[int, int]) == "2 whole numbers with commas"
    assert expected(Literal["a", "b"] | None) == "one of a, b"
    assert expected(Literal["from"] | int) == "one of from or a whole number"


def every_command() -> dict[str, Any]:
    top = {f"whatwhere {name}": where for name, where in wings.TOP.items()}
    nested = {
        f"whatwhere {wing} {name}": where
        for wing, package in wings.wings().items()
        for name, where in wings.commands_of(package).items()
    }
    return {name: loaded(where) for name, where in {**top, **nested}.items()}


@pytest.mark.parametrize("name", every_command())
def test_every_command_explains_every_option_and_shows_two_examples_that_parse(name):
    command = every_command()[name]
    docs = Docs.of(command)
    assert docs.summary.endswith(".")
    assert [o for o in options_of(command) if not docs.options.get(o)] == []
    assert len(docs.examples) == 2
    for example in docs.examples:
        words = shlex.split(example)
        assert " ".join(words[: len(name.split())]) == name
        parsed(name, command, words[len(name.split()) :])
