"""The script, as a shell reads it: what a user is offered behind what has been typed."""

import shutil
import subprocess

import pytest

from whatwhere import wings
from whatwhere.arguments import hints_of
from whatwhere.completion import SHELLS, completion
from whatwhere.lab.study import loaded

BASH = shutil.which("bash")
# Of each line on stdin, words with `|` between them, the offers as one line.
ASK = """
source "$1"
while IFS='|' read -r -a COMP_WORDS; do
    [[ ${COMP_WORDS[-1]} == "<TAB>" ]] && COMP_WORDS[-1]=""
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 )); COMPREPLY=()
    _shtab_whatwhere 2>/dev/null
    echo "${COMPREPLY[*]}"
done
"""
COMMANDS = {(name,): where for name, where in wings.TOP.items()} | {
    (wing, name): where for wing, package in wings.wings().items() for name, where in wings.commands_of(package).items()
}


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("shell") / "whatwhere"
    file.write_text(completion("bash"))
    return file


@pytest.fixture(scope="module")
def offered(script, tmp_path_factory):
    """By the words typed, what bash offers for the last of them; all in one shell."""
    if BASH is None:
        pytest.skip("there is no bash")
    here = tmp_path_factory.mktemp("typing")
    (here / "weights.safetensors").touch()
    (here / "pictures").mkdir()

    def ask(*lines: tuple[str, ...]) -> list[set[str]]:
        typed = "".join("|".join(("whatwhere", *(w or "<TAB>" for w in words))) + "\n" for words in lines)
        command = [BASH, "--norc", "-c", ASK, "bash", str(script)]
        done = subprocess.run(command, input=typed, capture_output=True, text=True, check=True, cwd=here)
        return [set(line.split()) for line in done.stdout.splitlines()]

    return ask


def test_every_command_and_each_of_its_options_is_offered(offered):
    root, *below = offered(("",), *((wing, "") for wing in wings.wings()))
    assert root == {*wings.TOP, *wings.wings()}
    assert below == [set(wings.commands_of(package)) for package in wings.wings().values()]
    options = offered(*((*words, "--") for words in COMMANDS))
    for (words, where), seen in zip(COMMANDS.items(), options, strict=True):
        assert seen == {f"--{o}" for o in (*hints_of(loaded(where)), "config", "help")}, words


def test_what_an_option_takes_is_offered(offered, script):
    asked = {
        ("need", "cu"): {"curve"},
        ("ne",): {"need"},
        ("nothing",): set(),
        ("need", "curve", "--minutess", ""): set(),
        ("train", "--recipe", "fan2020-c"): {"fan2020-cifar", "fan2020-cifar-fast"},
        ("train", "--precision", ""): {"32-true", "bf16-mixed", "tf32"},
        ("train", "--model", "m", "--augment", ""): {"true", "false"},
        ("train", "--augment", "true", "--log", "t"): {"tensorboard", "trackio"},
        ("need", "trained", "--score", ""): {"accuracy", "top5"},
        ("need", "curve", "--engine", "submitit-"): {"submitit-local", "submitit-debug"},
        ("hold", "red-green", "--engine", "r"): {"ray"},
        ("sites", "--kind", "conv"): {"conv", "conv1x1"},
        ("export", "--format", ""): {"onnx", "torch-export"},
        ("evaluate", "--weights", "w"): {"weights.safetensors"},
        ("evaluate", "--data", "p"): {"pictures"},
        ("compare", "p"): {"pictures"},
        ("compare", "pictures", "w"): {"weights.safetensors"},
        ("completion", ""): set(SHELLS),
    }
    assert dict(zip(asked, offered(*asked), strict=True)) == asked


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_of_all_wings(shell):
    text = completion(shell)
    assert all(word in text for word in (*wings.TOP, *wings.wings(), "red-green"))
    program = shutil.which(shell)
    if program:
        subprocess.run([program, "-n"], input=text, text=True, check=True)


def test_percent_signs_of_the_help_are_as_they_are():
    """argparse formats help with them; zsh's own escape of one is a backslash."""
    assert r"that hold 50 and 95 \%, and the box" in completion("zsh")
