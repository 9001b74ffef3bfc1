"""`whatwhere need ...`, as a user types it."""

import pytest
import torch

import whatwhere as ww
from whatwhere.arguments import Docs, call, parser_of
from whatwhere.cli import main
from whatwhere.errors import InputError
from whatwhere.lab.study import loaded
from whatwhere.models.load import load_model
from whatwhere.models.weights import save_weights
from whatwhere.need import COMMANDS
from whatwhere.need.commands import collapse


@pytest.mark.parametrize("options", [{"classes": 10, "width": 0.5}, {"width": 0.25}, {"classes": 3}])
@pytest.mark.parametrize("site", ["layers.2.0", "layers.2.1:"])
def test_the_printed_recipe_gives_the_network_that_was_written(tmp_path, options, site):
    weights, file = tmp_path / "w.safetensors", tmp_path / "small.safetensors"
    trained = load_model("cifar/resnet20", seed=7, **options)
    save_weights(trained.module, weights)
    text = collapse("cifar/resnet20", site, str(file), weights=str(weights), **options)
    _, recipe = text.split("in Python:\n")
    assert repr(site) not in recipe or ":" not in site  # where it is, not how it was asked for
    names: dict = {}
    exec("\n".join(line.strip() for line in recipe.splitlines()), names)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["net"].module(x), ww.need.collapse(trained, site).module(x))
    assert "GAP before layers.2" in text
    assert "random weights" not in text


def test_a_file_of_another_kind_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("whatwhere.models.load.load_model", lambda *_, **__: pytest.fail("loaded"))
    for name in ("small", "small.pt", "v1.0"):
        out = str(tmp_path / name)
        with pytest.raises(InputError, match=r"is not the name of a \.safetensors file") as error:
            collapse("cifar/resnet20", "layers.2.0", out)
        assert f"give '{out}.safetensors'" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_trained_weights_are_never_overwritten_unless_told_to(tmp_path, capsys):
    weights, small = tmp_path / "w.safetensors", tmp_path / "small.safetensors"
    save_weights(load_model("cifar/vgg11", classes=10, width=0.07).module, weights)
    trained = weights.read_bytes()
    words = ["need", "collapse", "--model", "cifar/vgg11", "--classes", "10", "--width", "0.07", "--site", "last 50%"]
    words += ["--weights", str(weights), "--out"]
    with pytest.raises(SystemExit) as left:
        main([*words, str(weights)])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "w.safetensors': the file is there already, and this command did not write it" in said
    assert weights.read_bytes() == trained
    main([*words, str(small)])
    main([*words, str(small)])  # its own may be made again
    assert small.read_bytes() != trained
    main([*words, str(weights), "--overwrite"])
    assert weights.read_bytes() == small.read_bytes()


def test_random_weights_are_noted_and_both_networks_measured(capsys, tmp_path):
    out = tmp_path / "small.safetensors"
    options = ["--classes", "10", "--width", "0.07", "--site", "last 50%", "--data", "digits"]
    main(["need", "collapse", "--model", "cifar/vgg11", *options, "--out", str(out)])
    shown = capsys.readouterr().out
    assert shown.startswith("Note: cifar/vgg11 has random weights")
    assert "--weights FILE" in shown
    assert shown.count("of 450 pictures") == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_text_and_every_command_two_examples(name):
    thing = loaded(COMMANDS[name])
    docs = Docs.of(thing)
    assert len(docs.examples) == 2
    assert all(line.startswith(f"whatwhere need {name} ") for line in docs.examples)
    options = [a for g in parser_of(f"whatwhere need {name}", thing)._action_groups[2:] for a in g._group_actions]
    assert [a.dest for a in options if not a.help or a.help == "==SUPPRESS=="] == []


def test_the_curve_from_the_command_line(tmp_path):
    thing = loaded(COMMANDS["curve"])
    file = tmp_path / "w.safetensors"
    save_weights(load_model("cifar/vgg11", classes=10, width=0.07).module, file)
    network = f"--model cifar/vgg11 --width 0.07 --weights {file}"
    words = f"{network} --data digits --methods mean --reach 2 --sites features.11,features.15 --limit 20 --quiet"
    shown = call("whatwhere need curve", thing, [*words.split(), "--out", str(tmp_path / "out")])
    assert shown == f"open {tmp_path / 'out' / 'index.html'}"
    result = ww.load_result(tmp_path / "out")
    assert result.settings["reach"] == 2
    assert {p.site for p in result.points} == {"features.11", "features.15"}
