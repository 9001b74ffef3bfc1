"""The command, as a user types it."""

import subprocess
import sys

import pytest
from PIL import Image

import whatwhere as ww
from whatwhere.cli import main
from whatwhere.models.load import save_weights
from whatwhere.studies.recalibration.study import NAMED


def run(capsys, *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_sites(capsys):
    out = run(capsys, "sites", "--model", "cifar/resnet20", "--kind", "block")
    assert "layers.2.0" in out
    assert "conv1" not in out
    assert "preprocessing" in out


def test_sites_of_a_selection(capsys):
    out = run(capsys, "sites", "--model", "cifar/vgg16", "--select", "last 30%", "--kind", "conv")
    assert [line.split()[1] for line in out.splitlines()[1:-1]] == [
        "features.30",
        "features.34",
        "features.37",
        "features.40",
    ]


def test_a_wrong_name_says_what_to_type_instead(capsys):
    assert "Did you mean 'timm/resnet18'" in fails(capsys, "sites", "--model", "timm/resnet81")
    assert "cifar/vgg16" in fails(capsys, "sites", "--model", "vgg16")


def test_dependency_needs_both_or_neither(capsys):
    assert "give both --model and --data" in fails(capsys, "dependency", "--model", "cifar/vgg11")


def test_train_collapse_curve_report(capsys, tmp_path):
    """One user's way through: train, look, make the smaller one, write the page again."""
    out = run(capsys, "train", "--model", "cifar/vgg11", "--data", "digits", "--out", str(tmp_path / "t"), "--recipe", "demo",
              "--epochs", "1", "--width", "0.1")  # fmt: skip
    assert "% [" in out
    weights = str(tmp_path / "t" / "weights.safetensors")
    common = ("--model", "cifar/vgg11", "--width", "0.1", "--weights", weights)
    out = run(
        capsys,
        "dependency",
        *common,
        "--data",
        "digits",
        "--limit",
        "60",
        "--repeats",
        "2",
        "--out",
        str(tmp_path / "c"),
    )
    assert str(tmp_path / "c" / "index.html") in out
    page = (tmp_path / "c" / "index.html").read_bytes()
    (tmp_path / "c" / "index.html").unlink()
    run(capsys, "report", "--folder", str(tmp_path / "c"))
    assert (tmp_path / "c" / "index.html").read_bytes() == page
    out = run(capsys, "collapse", *common, "--classes", "10", "--site", "last 30%", "--out", str(tmp_path / "small.safetensors"),
              "--data", "digits")  # fmt: skip
    assert "parameters" in out
    assert (tmp_path / "small.safetensors").exists()


def test_study_from_a_config_file(capsys, tmp_path):
    config = tmp_path / "study.yaml"
    config.write_text(
        "protocol: study\nmodel: cifar/vgg11\ndata: digits\nwidth: 0.07\nrecipe: demo\nepochs: 1\nshares: [1.0]\n"
        f"methods: [gap_fc]\nmatrix: []\nseeds: [0]\nout: {tmp_path / 's'}\n"
    )
    run(capsys, "dependency", "--config", str(config))
    assert len(ww.DependencyResult.load(tmp_path / "s").points) == 1


def test_lists_can_be_written_as_one_likes(capsys, tmp_path):
    common = (
        "dependency",
        "--model",
        "cifar/vgg11",
        "--width",
        "0.07",
        "--data",
        "digits",
        "--limit",
        "20",
        "--repeats",
        "2",
    )
    for i, (methods, expected) in enumerate([("mean", 1), ("mean,shared", 2), ("[mean, shared]", 2)]):
        run(capsys, *common, "--methods", methods, "--sites", "features.18", "--out", str(tmp_path / str(i)))
        assert len(ww.DependencyResult.load(tmp_path / str(i)).points) == expected


def test_weights_that_do_not_fit(capsys, tmp_path):
    file = tmp_path / "w.safetensors"
    save_weights(ww.load_model("cifar/vgg11", width=0.1).module, file)
    said = fails(capsys, "sites", "--model", "cifar/vgg11", "--width", "0.2", "--weights", str(file))
    assert "do not fit" in said


def test_module_and_command_are_the_same():
    done = subprocess.run([sys.executable, "-m", "whatwhere", "--help"], capture_output=True, text=True, check=True)
    assert "the demo" in done.stdout


def test_position_writes_its_page(tmp_path, capsys):
    main(
        "position --model cifar/vgg11 --width 0.125 --data digits --targets H,G --kernels 1 --pictures 12 --padding circular "
        f"--test_pictures 4 --untrained 1 --sites levels --out {tmp_path}".split()
    )
    assert "a single untrained network" in capsys.readouterr().out
    assert {"index.html", "gallery.png", "curve.svg", "table.csv", "result.json"} <= {
        p.name for p in tmp_path.iterdir()
    }
    main(["report", "--folder", str(tmp_path)])


def test_red_green_needs_no_data(tmp_path, capsys):
    main(f"position --protocol red-green --padding zeros --seeds 0 --epochs 1 --out {tmp_path}".split())
    assert "open" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("position --model cifar/vgg11", "--data"),
        ("position --data digits --model cifar/vgg11 --kernels three", "whole numbers"),
        ("position --data digits --model cifar/vgg11 --targets Q", "targets='Q'"),
    ],
)
def test_position_says_what_is_missing(arguments, message, capsys):
    with pytest.raises(SystemExit):
        main(arguments.split())
    assert message in capsys.readouterr().err


def test_uneven_padding_is_listed(capsys):
    main(["sites", "--model", "timm/resnet18", "--padding", "true"])
    out = capsys.readouterr().out
    assert "conv1" in out
    assert "193, 225" in out


def test_recalibration_names_every_method_there_is(capsys):
    with pytest.raises(SystemExit):
        main(["recalibration", "--help"])
    said = "".join(capsys.readouterr().out.split())  # lines may break at any hyphen
    assert "METHODS,oroneof" not in said
    assert all(name in said for name in ("none", "wider", "se", *NAMED))


def test_arguments_of_the_joint_question_are_refused_without_it(capsys, tmp_path):
    said = fails(
        capsys,
        "recalibration",
        "--model",
        "cifar/resnet20",
        "--data",
        "digits",
        "--out",
        str(tmp_path),
        "--repeats",
        "3",
    )
    assert "repeats: for --protocol joint" in said


def test_the_joint_question_is_one_command(capsys, tmp_path):
    main(
        "recalibration --protocol joint --model cifar/resnet20 --width 0.5 --data digits --methods none --seeds 0 --epochs 1 "
        f"--recipe demo --sites layers.2.2 --targets H --pictures 10 --test_pictures 4 --limit 10 --repeats 2 --out {tmp_path}".split()
    )
    assert f"open {tmp_path / 'joint' / 'index.html'}" in capsys.readouterr().out
    assert (tmp_path / "index.html").exists()
    main(["report", "--folder", str(tmp_path / "joint")])


def test_a_training_folder_that_began_with_other_weights_is_refused(tmp_path, capsys):
    how = ("train", "--model", "cifar/vgg11", "--data", "digits", "--out", str(tmp_path), "--width", "0.07",
           "--recipe", "demo", "--epochs", "1")  # fmt: skip
    first = run(capsys, *how)
    assert run(capsys, *how) == first  # the same one goes on, here from its end
    other = ww.load_model("cifar/vgg11", classes=10, width=0.07, seed=5)
    save_weights(other.module, tmp_path / "other.safetensors")
    assert "began with other weights" in fails(capsys, *how, "--weights", str(tmp_path / "other.safetensors"))


def test_a_device_that_is_not_there_is_told(tmp_path, capsys):
    how = ("dependency", "--model", "cifar/vgg11", "--data", "digits", "--out", str(tmp_path), "--device", "nonsense")
    assert "device='nonsense' cannot be used" in fails(capsys, *how)


def test_a_folder_without_a_result_says_what_is_there(tmp_path, capsys):
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint" / "result.json").write_text("{}")
    assert "give one of joint in it" in fails(capsys, "report", "--folder", str(tmp_path))
    assert "finished measurement" in fails(capsys, "report", "--folder", str(tmp_path / "nothing"))


def test_options_of_another_protocol_are_refused(capsys, tmp_path):
    common = ("dependency", "--model", "cifar/vgg11", "--data", "digits", "--out", str(tmp_path))
    assert "--epochs, --seeds: for --protocol study only" in fails(capsys, *common, "--epochs", "3", "--seeds", "0,1")
    assert "--seed: for --protocol curve only" in fails(capsys, *common, "--protocol", "study", "--seed", "7")
    assert "give both --model and --data" in fails(capsys, "dependency", "--protocol", "study", "--out", str(tmp_path))
    assert "such as 0.31,0.54" in fails(capsys, *common, "--protocol", "study", "--shares", "0.31,high")


def test_lists_are_given_with_commas(capsys, tmp_path, monkeypatch):
    seen = {}
    commands = sys.modules["whatwhere.cli.dependency"]  # `whatwhere.cli.dependency` itself is the command
    monkeypatch.setattr(commands, "dependency_study", lambda *a, **k: seen.update(k))
    monkeypatch.setattr(commands, "_last_line", lambda study: "")
    run(capsys, "dependency", "--protocol", "study", "--model", "cifar/vgg11", "--data", "digits", "--out", str(tmp_path),
        "--shares", "0.31,0.54", "--seeds", "0,1", "--matrix", "0.31")  # fmt: skip
    assert (seen["shares"], seen["seeds"], seen["matrix"]) == ([0.31, 0.54], [0, 1], [0.31])


def test_random_weights_are_said_aloud(capsys, tmp_path):
    out = run(capsys, "dependency", "--model", "cifar/vgg11", "--data", "digits", "--out", str(tmp_path), "--width", "0.07",
              "--methods", "mean", "--limit", "20")  # fmt: skip
    assert "random weights" in out
    assert "not above chance" in out


def test_pictures_without_labels_are_told(capsys, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    how = ("dependency", "--model", "cifar/vgg11", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "no labels" in fails(capsys, *how)


@pytest.mark.parametrize(
    ("protocol", "option", "value", "those"),
    [("readout", "--seeds", "0,1", "red-green or location"), ("red-green", "--targets", "H", "readout"),
     ("pattern", "--grid", "4", "location"), ("location", "--margin", "4", "pattern")],
)  # fmt: skip
def test_position_refuses_options_of_another_protocol(capsys, protocol, option, value, those):
    said = fails(
        capsys, "position", "--protocol", protocol, "--data", "digits", "--model", "cifar/vgg11", option, value
    )
    assert f"{option}: for --protocol {those} only" in said
