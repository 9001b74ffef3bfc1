"""The command line as a whole: help, typos, Ctrl-C, and one user's way through."""

import os
import subprocess
import sys

import pytest
from PIL import Image

import whatwhere as ww
from whatwhere import cli
from whatwhere.cli import main


def run(capsys, *arguments: object) -> str:
    main([str(a) for a in arguments])
    return capsys.readouterr().out


def fails(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_help_names_every_wing_and_command(capsys):
    out = run(capsys)
    assert out == run(capsys, "--help")
    for word in ("need", "hold", "use", "say", "curve", "red-green", "sites", "evaluate", "report"):
        assert word in out
    assert out.count("whatwhere need curve --model") == 1
    for wing in ("need", "hold", "use", "say"):
        assert run(capsys, wing, "--help").count("  whatwhere ") >= 2
    assert run(capsys, "--version") == f"whatwhere {ww.__version__}\n"


def test_module_and_command_are_the_same(capsys):
    done = subprocess.run([sys.executable, "-m", "whatwhere", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout == run(capsys, "--help")


def test_a_typo_is_answered_with_the_nearest_word(capsys):
    assert "Did you mean 'need'" in fails(capsys, "ned", "curve")
    assert "Did you mean 'curve'" in fails(capsys, "need", "curv")
    assert "Did you mean --repeats?" in fails(capsys, "need", "curve", "--model", "a", "--data", "b", "--repeat", 3)


def test_an_option_of_another_study_is_refused_even_with_its_default(capsys):
    said = fails(capsys, "need", "trained", "--model", "cifar/vgg11", "--data", "digits", "--tolerance", "0.1")
    assert "there is no option --tolerance" in said
    assert "there is no option --grid" in fails(capsys, "hold", "readout", "--grid", 3)


def test_a_missing_option_is_named(capsys):
    assert "give --data" in fails(capsys, "need", "curve", "--model", "cifar/vgg11")


def test_an_interruption_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    with pytest.raises(SystemExit) as exit_:
        main(["need", "curve"])
    assert exit_.value.code == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_train_curve_report_collapse(capsys, tmp_path):
    """One user's way through: train, look, write the page again, make the smaller one."""
    small = ("--model", "cifar/vgg11", "--width", 0.1)
    run(capsys, "train", *small, "--data", "digits", "--out", tmp_path / "t", "--recipe", "demo", "--epochs", 1)
    weights, out = tmp_path / "t" / "weights.safetensors", tmp_path / "c"
    curve = ("need", "curve", *small, "--weights", weights, "--data", "digits", "--limit", 60, "--repeats", 2)
    assert f"open {out / 'index.html'}" in run(capsys, *curve, "--out", out)
    page = (out / "index.html").read_bytes()
    (out / "index.html").unlink()
    run(capsys, "report", "--folder", out)
    assert (out / "index.html").read_bytes() == page
    made = tmp_path / "small.safetensors"
    collapse = ("need", "collapse", *small, "--weights", weights, "--classes", 10, "--site", "last 30%")
    said = run(capsys, *collapse, "--out", made, "--data", "digits")
    assert "parameters" in said
    assert made.exists()


def test_a_study_from_a_configuration_file(capsys, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text(
        "model: cifar/vgg11\ndata: digits\nwidth: 0.07\nrecipe: demo\nepochs: 1\nshares: [1.0]\n"
        f"methods: [gap_fc]\nmatrix: []\nseeds: [0]\nout: {tmp_path / 's'}\n"
    )
    run(capsys, "need", "trained", "--config", config)
    assert len(ww.load_result(tmp_path / "s").points) == 1


def test_lists_can_be_written_as_one_likes(capsys, tmp_path):
    common = ("need", "curve", "--model", "cifar/vgg11", "--width", 0.07, "--data", "digits", "--limit", 20)
    for i, (methods, expected) in enumerate([("mean", 1), ("mean,shared", 2), ('["mean", "shared"]', 2)]):
        how = ("--repeats", 2, "--methods", methods, "--sites", "features.18", "--out", tmp_path / str(i))
        run(capsys, *common, *how)
        assert len(ww.load_result(tmp_path / str(i)).points) == expected


def test_random_weights_are_announced(capsys, tmp_path):
    how = ("--model", "cifar/vgg11", "--data", "digits", "--width", 0.07, "--methods", "mean", "--limit", 20)
    main([str(a) for a in ("need", "curve", *how, "--out", tmp_path)])
    seen = capsys.readouterr()
    assert "random weights" in seen.out + seen.err
    assert "not above chance" in seen.out


def test_pictures_without_labels_have_no_accuracy(capsys, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    how = ("need", "curve", "--model", "cifar/vgg11", "--data", tmp_path, "--out", tmp_path / "out")
    how += ("--score", "accuracy")
    assert "no labels" in fails(capsys, *how)


def test_a_device_that_is_not_there_is_named(tmp_path, capsys):
    how = ("need", "curve", "--model", "cifar/vgg11", "--data", "digits", "--out", tmp_path, "--device", "nonsense")
    assert "device='nonsense' cannot be used" in fails(capsys, *how)


def test_hold_readout_writes_its_page(tmp_path, capsys):
    out = run(
        capsys,
        *[
            "hold",
            "readout",
            "--model",
            "cifar/vgg11",
            "--width",
            "0.125",
            "--data",
            "digits",
            "--targets",
            "H,G",
            "--kernels",
            "1",
            "--pictures",
            "12",
        ],
        *f"--paddings circular --test_pictures 4 --untrained 1 --sites levels --out {tmp_path}".split(),
    )
    assert "a single untrained network" in out
    written = {p.name for p in tmp_path.iterdir()}
    assert {"index.html", "gallery.png", "curve.svg", "table.csv", "result.json"} <= written
    run(capsys, "report", "--folder", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("hold readout --model cifar/vgg11", "--data"),
        ("hold readout --data digits --model cifar/vgg11 --kernels three", "whole numbers"),
        ("hold readout --data digits --model cifar/vgg11 --targets Q --out OUT", "targets='Q'"),
        ("use cost --model cifar/resnet20 --data digits --methods such --out OUT", "such"),
    ],
)
def test_what_is_wrong_is_named(arguments, message, capsys, tmp_path):
    assert message in fails(capsys, *arguments.replace("OUT", str(tmp_path)).split())


def test_hold_red_green_needs_no_data(tmp_path, capsys):
    out = run(capsys, *f"hold red-green --paddings zeros --seeds 0 --epochs 1 --out {tmp_path}".split())
    assert "open" in out


@pytest.mark.slow
def test_use_joint_is_one_command(capsys, tmp_path):
    out = run(
        capsys,
        *[
            "use",
            "joint",
            "--model",
            "cifar/resnet20",
            "--width",
            "0.5",
            "--data",
            "digits",
            "--methods",
            "none",
            "--seeds",
            "0",
            "--epochs",
            "1",
        ],
        *[
            "--recipe",
            "demo",
            "--sites",
            "layers.2.2",
            "--targets",
            "H",
            "--pictures",
            "10",
            "--test_pictures",
            "4",
            "--limit",
            "10",
        ],
        *f"--repeats 2 --out {tmp_path}".split(),
    )
    assert f"open {tmp_path / 'joint' / 'index.html'}" in out
    assert (tmp_path / "index.html").exists()
    run(capsys, "report", "--folder", tmp_path / "joint")


@pytest.mark.parametrize("command", ["--help", "need --help", "sites --model cifar/resnet20"])
def test_a_closed_pipe_ends_a_command_quietly(command: str) -> None:
    """As `whatwhere ... | head -0`: nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "whatwhere", *command.split()], stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141
