"""`whatwhere need ...`, as a user types it."""

import shlex

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
from whatwhere.need.commands import collapse, pointwise, truncate


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


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (pointwise, {}),
        (pointwise, {"local": "average", "init": "fresh", "seed": 2}),
        (truncate, {"classes": 4}),
        (truncate, {"scores": 3}),
    ],
)
def test_the_printed_recipe_of_the_other_removals_loads_what_was_written(tmp_path, make, options):
    file = tmp_path / "new.safetensors"
    text = make("cifar/resnet20", "layers.1.0:", str(file), width=0.25, **options)
    names: dict = {}
    exec("\n".join(line.strip() for line in text.split("in Python:\n")[1].splitlines()), names)
    make("cifar/resnet20", "layers.1.0", str(tmp_path / "folder"), width=0.25, **options)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["net"].module(x), load_model(tmp_path / "folder").module(x))


def test_a_network_whose_classifier_is_new_says_so_until_it_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_weights(load_model("cifar/vgg11", seed=7, classes=10, width=0.07).module, "w.safetensors")
    run("need truncate --model cifar/vgg11 --classes 10 --width 0.07 --weights w.safetensors --site features.8 --out s")
    shown = capsys.readouterr().out
    assert "Note" not in shown
    assert "new_classifier: GAP, then a new linear layer for 10 classes, which is to be trained" in shown
    run("evaluate --model s --data digits")
    assert "s in part: new_classifier, which is new: train it" in capsys.readouterr().out
    run("train --model s --data digits --recipe demo --epochs 1 --out tuned")
    capsys.readouterr()
    run("evaluate --model s --weights tuned/weights.safetensors --data digits")
    assert "Note" not in capsys.readouterr().out


def test_positions_that_still_see_each_other_are_printed_and_the_file_is_the_commands_own(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    network = "--model cifar/vgg11 --classes 10 --width 0.07 --site features.18"
    run(f"need pointwise {network} --out flat --data digits")
    shown = capsys.readouterr().out
    assert "through features.21 (MaxPool2d); features.28 (MaxPool2d)." in shown
    assert shown.count("of 450 pictures") == 2
    run(f"need pointwise {network} --out flat")
    with pytest.raises(SystemExit):
        run(f"need collapse {network} --out flat")
    assert "out='flat': weights.safetensors, config.json are there already" in capsys.readouterr().err


def run(line: str) -> None:
    main(line.split())


@pytest.mark.parametrize("out", ["small", "v1.0", "my nets/small"])
def test_what_is_printed_goes_on_with_the_network_that_was_written(tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    trained = load_model("cifar/vgg11", seed=7, classes=10, width=0.07)
    save_weights(trained.module, "w.safetensors")
    words = "--model cifar/vgg11 --classes 10 --width 0.07 --weights w.safetensors --site features.18 --data digits"
    main(["need", "collapse", *words.split(), "--out", out])
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(f"wrote {out}; to go on with it:")
    command, python = lines[at + 1 : at + 3]
    small = ww.need.collapse(trained, "features.18")
    names: dict = {"ww": ww}
    exec(python.strip(), names)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["net"].module(x), small.module(x))
    assert shlex.split(command)[:2] == ["whatwhere", "evaluate"]
    main(shlex.split(command)[1:])
    assert capsys.readouterr().out.splitlines()[0] == lines[-1]  # of the small network, measured by collapse, too
    assert "random weights" not in "".join(lines)


def test_a_collapsed_network_is_trained_measured_and_collapsed_further(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network = "--model cifar/vgg11 --classes 10 --width 0.07 --site features.18"
    run(f"need collapse {network} --out small")
    run("need collapse --model small --site features.8 --out smaller")
    assert "GAP before features.8" in capsys.readouterr().out
    run("sites --model smaller --kind conv")
    assert "features.8" not in capsys.readouterr().out  # nothing spatial is left there
    run("train --model small --data digits --recipe demo --epochs 1 --out tuned")
    capsys.readouterr()
    run("evaluate --model small --weights tuned/weights.safetensors --data digits")
    assert capsys.readouterr().out.startswith("cifar/vgg11 + GAP before features.18: ")
    run("need curve --model small --data digits --limit 30 --methods mean --sites features.4 --quiet --out curve")
    tuning = "--recipe demo --epochs 1 --seeds 0 --pictures 300 --limit 30 --augment false --quiet"
    run(f"need recover --model small --data digits --sites features.4 {tuning} --out recover")
    assert ww.load_result("curve").network == "cifar/vgg11 + GAP before features.18"
    (again,) = [w for row, (w,) in ww.load_result("recover").weights.items() if row.startswith("features.4")]
    assert load_model(f"recover/{again}").name.endswith("GAP before features.18 + GAP before features.4")


def test_a_saved_networks_folder_is_not_written_over_by_another_command_or_by_what_is_made_of_it(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    ww.save(load_model("cifar/vgg11", classes=10, width=0.07), "mine")
    run("need collapse --model mine --site features.18 --out small")
    before = (tmp_path / "mine/weights.safetensors").read_bytes()
    for words, said in (
        ("--model mine --site features.18 --out mine", "out='mine' is the model's folder"),
        ("--model small --site features.8 --out ./small", "out='./small' is the model's folder"),
        (
            "--model small --site features.8 --out mine",
            "out='mine': weights.safetensors, config.json are there already",
        ),
    ):
        with pytest.raises(SystemExit) as left:
            main(["need", "collapse", *words.split()])
        assert left.value.code == 2
        assert said in capsys.readouterr().err
    assert (tmp_path / "mine/weights.safetensors").read_bytes() == before
    run("need collapse --model mine --site features.8 --out small")  # its own
    run("need collapse --model small --site features.4 --out mine --overwrite")
    assert load_model("mine").name.count("GAP") == 2


def test_a_file_of_another_kind_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("whatwhere.models.load.load_model", lambda *_, **__: pytest.fail("loaded"))
    for name in ("small.pt", "small.pth", "small.onnx"):
        out = str(tmp_path / name)
        with pytest.raises(InputError, match=r"is not the name of a \.safetensors file") as error:
            collapse("cifar/resnet20", "layers.2.0", out)
        assert f"give '{out}.safetensors', or a folder such as '{tmp_path / 'small'}'" in str(error.value)
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


NETWORK = "--model cifar/vgg11 --width 0.07 --data digits"
CURVE = f"{NETWORK} --limit 20 --methods mean --sites features.25"
TRAINED = f"{NETWORK} --epochs 1 --recipe demo"
COLLAPSE = "--model cifar/vgg11 --width 0.07 --classes 10 --out small.safetensors"
# A wrong call, and what its one line must name: the argument, what was seen, what to give.
WRONG = [
    *(
        ("curve", f"{CURVE} {options}", said)
        for options, said in [
            ("--repeats 0", "repeats=0 must be a whole number from 1 to 255"),
            ("--repeats 256", "repeats=256 must be a whole number from 1 to 255"),
            ("--batch_size 0", "batch_size=0: give a whole number of at least 1"),
            ("--batch_size -3", "batch_size=-3: give a whole number of at least 1"),
            ("--limit 0", "limit=0: give a whole number of at least 1"),
            ("--within 5", "within=5.0: give a share from 0 to 1; 0.01 is one point"),
            ("--within 1%", "--within=1%: give a number"),
            ("--tolerance -1", "tolerance=-1.0: give 0 or more"),
            ("--tolerance 0.1 --repeats 2", "tolerance=0.1: give 0 or more, and at least 3 repeats"),
            ("--reach 0", "reach=0: give 'from', or a number of cuts from 1"),
            ("--reach 9", "reach=9: there are 1 cuts; give 1 to 1, or 'from'"),
            ("--reach to", "--reach=to: give one of from or a whole number"),
            ("--methods nothing", "methods='nothing' matches nothing. Choices: per-channel, shared"),
            ("--sites nothing", "sites='nothing' matches nothing. Choices: features"),
            ("--sites 'last 130%'", "sites='last 130%': give a share above 0 and at most all, such as 'last 30%'"),
            ("--sites 'last 0%'", "sites='last 0%': give a share above 0"),
            ("--sites 'last 5%'", "sites='last 5%' matches nothing: no cut is that deep. Choices: features.0"),
            ("--sites 'last x%'", "sites='last x%': write a percentage such as 'last 30%'"),
            ("--width 0", "width=0.0, classes=10: give a width above 0"),
            ("--width 1000000", "width=1e+06"),
            ("--seed x", "--seed=x: give a whole number"),
            ("--seed 99999999999999999999", "seed=99999999999999999999: give a whole number"),
            ("--weights nothing.pt", "weights='nothing.pt': there is no such file"),
            ("--device tpu", "device='tpu' cannot be used"),
            ("--workers -1", "workers=-1: give 0 (this process)"),
            ("--model cifar/nothing", "model='cifar/nothing' matches nothing"),
            ("--fold_only", "holds no study to fold"),
        ]
    ),
    *(
        ("trained", f"{TRAINED} {options}", said)
        for options, said in [
            ("--shares 38", "shares=[38.0]: give shares from 0 to 1, such as 0.31,0.54; 38 % is 0.38"),
            ("--shares 0", "shares=[0.0]: 0 is the intact network, which is trained anyway; give more than 0"),
            ("--shares -0.1", "shares=[-0.1]: give shares from 0 to 1"),
            ("--shares 0.01", "share=1 %: no cut is near; this network can be cut at 100, 88"),
            ("--shares 0.5 --matrix 0.7", "matrix=[0.7]: give some of shares=[0.5]"),
            ("--matrix 38", "matrix=[38.0]: give shares from 0 to 1"),
            ("--plain_shares 38", "plain_shares=[38.0]: give shares from 0 to 1"),
            ("--seeds -1", "seeds=(-1,): give at least one whole number, each 0 or more"),
            ("--methods mean", "methods='mean' matches nothing"),
            ("--repeats 0", "repeats=0 must be a whole number"),
            ("--within 5", "within=5.0: give a share from 0 to 1"),
            ("--lr 0", "lr=0.0 must be above 0: at 0 nothing is learned"),
            ("--lr -1", "lr=-1.0 must be a number of at least 0"),
            ("--epochs 0", "epochs=0 must be a whole number of at least 1"),
            ("--batch_size 0", "batch_size=0 must be a whole number of at least 1"),
            ("--recipe nothing", "recipe='nothing' matches nothing"),
            ("--width 0", "width=0.0, classes=10: give a width above 0"),
            ("--model nothing", "model='nothing'"),
        ]
    ),
    *(
        ("collapse", f"{COLLAPSE} {options}", said)
        for options, said in [
            ("--site 'last 130%'", "sites='last 130%': give a share above 0"),
            ("--site 'last 5%'", "sites='last 5%' matches nothing: no cut is that deep"),
            ("--site nothing", "sites='nothing' matches nothing"),
            ("--site features.25 --out small.pt", "give 'small.pt.safetensors'"),
            ("--site features.25 --init x", "--init=x: give one of kernel-sum, fresh"),
            ("--site features.25 --data nothing", "data='nothing' matches nothing"),
        ]
    ),
    *(
        (command, f"{COLLAPSE} {options}", said)
        for command, options, said in [
            ("pointwise", "--site nothing", "sites='nothing' matches nothing"),
            ("pointwise", "--site features.25 --local median", "--local=median: give one of none, average, max"),
            ("pointwise", "--site features.25 --init x", "--init=x: give one of kernel-sum, fresh"),
            ("truncate", "--site 'last 5%'", "sites='last 5%' matches nothing: no cut is that deep"),
            ("truncate", "--site features.25 --scores -1", "classes=-1: give a whole number above 0"),
            ("truncate", "--site features.25 --init fresh", "there is no option --init"),
        ]
    ),
    ("demo", "--model cifar/vgg11", "there is no option --model"),
    ("demo", "--within 5", "within=5.0: give a share from 0 to 1"),
]


@pytest.mark.parametrize(("command", "words", "said"), WRONG, ids=[f"{c} {w.split(' --')[-1]}" for c, w, _ in WRONG])
def test_a_wrong_call_is_refused_in_one_line(command, words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(
            [
                "need",
                command,
                *shlex.split(words),
                *(["--quiet"] if command not in ("collapse", "pointwise", "truncate") else []),
            ]
        )
    shown = capsys.readouterr().err
    assert left.value.code == 2
    assert shown.startswith("whatwhere: ")
    assert shown.count("\n") == 1
    assert said in shown
    assert not list(tmp_path.rglob("cells/*")), "nothing ran"
