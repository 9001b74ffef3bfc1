"""The commands about one network, as a user types them."""

import json
import re

import pytest
import torch
from PIL import Image

import whatwhere as ww
from whatwhere.cli import main
from whatwhere.commands import KINDS
from whatwhere.models.weights import save_weights


def run(capsys, *arguments: object) -> str:
    main([str(a) for a in arguments])
    return capsys.readouterr().out


def fails(capsys, *arguments: object) -> str:
    with pytest.raises(SystemExit) as exit_:
        main([str(a) for a in arguments])
    assert exit_.value.code == 2
    return capsys.readouterr().err


def test_sites(capsys):
    out = run(capsys, "sites", "--model", "cifar/resnet20", "--kind", "block")
    assert "layers.2.0" in out
    assert "conv1" not in out
    assert "preprocessing" in out


def test_sites_of_a_selection(capsys):
    out = run(capsys, "sites", "--model", "cifar/vgg16", "--select", "last 30%", "--kind", "conv")
    names = [line.split()[1] for line in out.splitlines()[1:-1]]
    assert names == ["features.30", "features.34", "features.37", "features.40"]


def test_receptive_fields_of_a_selection(capsys):
    asked = ("--select", "layers.0*", "--kind", "conv", "--receptive", "true", "--data", "digits", "--pictures", "2")
    out = run(capsys, "sites", "--model", "cifar/resnet20", *asked).splitlines()
    assert out[0].split()[:3] == ["site", "r50", "(px)"]
    assert out[1].startswith("layers.0.0.conv1 ")
    assert out[1].endswith("5 x 5")  # the stem's 3 x 3, then 3 x 3
    assert "2; intervals are over pictures" in out[-2]


def test_a_wrong_name_says_what_to_type_instead(capsys):
    assert "Did you mean 'timm/resnet18'" in fails(capsys, "sites", "--model", "timm/resnet81")
    assert "cifar/vgg16" in fails(capsys, "sites", "--model", "vgg16")


def test_an_unknown_kind_of_site_is_refused(capsys):
    said = fails(capsys, "sites", "--model", "cifar/resnet20", "--kind", "convv")
    assert "kind='convv' matches nothing. Did you mean 'conv'" in said
    assert "Choices: conv, conv1x1, norm, act, pool, linear, block, group, other." in said


def test_a_kind_that_a_network_has_none_of(capsys):
    first = run(capsys, "sites", "--model", "cifar/vgg11", "--kind", "block").splitlines()[0]
    assert first == "cifar/vgg11 has no site of kind 'block'."
    said = run(capsys, "sites", "--model", "cifar/vgg11", "--select", "last 30%", "--kind", "block")
    assert "no site of kind 'block' in the selection 'last 30%'." in said


def test_every_kind_there_is_can_be_asked_for():
    for name in ("cifar/resnet20", "timm/test_vit", "timm/test_convnext"):
        assert {s.kind for s in ww.sites(ww.load_model(name))} <= set(KINDS)


@pytest.mark.slow
def test_uneven_padding_is_listed(capsys):
    out = run(capsys, "sites", "--model", "timm/resnet18", "--padding", "true")
    assert "conv1" in out
    assert "193, 225" in out


def test_weights_that_do_not_fit(capsys, tmp_path):
    file = tmp_path / "w.safetensors"
    save_weights(ww.load_model("cifar/vgg11", width=0.1).module, file)
    assert "do not fit" in fails(capsys, "sites", "--model", "cifar/vgg11", "--width", "0.2", "--weights", file)


def test_training_resumes_and_a_folder_of_other_weights_is_refused(tmp_path, capsys):
    how = ("train", "--model", "cifar/vgg11", "--data", "digits", "--out", tmp_path, "--width", 0.07)
    how = (*how, "--recipe", "demo", "--epochs", 1)
    first = run(capsys, *how)
    assert "% [" in first
    assert run(capsys, *how) == first  # the same one goes on, here from its end
    history = json.loads((tmp_path / "history.json").read_text())
    assert {"model", "data", "seed", "width", "recipe", "preprocessing", "epochs", "accuracy"} <= set(history)
    other = ww.load_model("cifar/vgg11", classes=10, width=0.07, seed=5)
    save_weights(other.module, tmp_path / "other.safetensors")
    assert "began with other weights" in fails(capsys, *how, "--weights", tmp_path / "other.safetensors")


def test_evaluate_pictures_and_scenes(tmp_path, capsys):
    out = run(capsys, "evaluate", "--model", "cifar/vgg11", "--data", "digits", "--width", 0.07)
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    assert str(ww.evaluate(net, ww.load_data("digits"))) in out
    assert "random weights" in out
    assert "Give weights or pretrained" in out
    Image.new("RGB", (32, 32)).save(tmp_path / "1.png")
    assert "no labels" in fails(capsys, "evaluate", "--model", "cifar/vgg11", "--data", tmp_path)
    assert "no labels; training needs" in fails(
        capsys, "train", "--model", "cifar/vgg11", "--data", tmp_path, "--out", tmp_path / "out"
    )
    assert "device='nonsense'" in fails(
        capsys, "evaluate", "--model", "cifar/vgg11", "--data", "digits", "--device", "nonsense"
    )


def test_a_folder_without_a_result_says_what_is_there(tmp_path, capsys):
    (tmp_path / "joint").mkdir()
    (tmp_path / "joint" / "result.json").write_text("{}")
    assert "give one of joint in it" in fails(capsys, "report", "--folder", tmp_path)
    assert "finished measurement" in fails(capsys, "report", "--folder", tmp_path / "nothing")


# ---- networks in folders, and files for other programs


def test_a_folder_is_listed_trained_on_and_evaluated_like_a_name(tmp_path, capsys):
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    folder = ww.save(ww.hold.with_padding(net, "circular"), tmp_path / "net")
    listed = run(capsys, "sites", "--model", folder, "--kind", "conv")
    assert listed == run(capsys, "sites", "--model", "cifar/vgg11", "--classes", 10, "--width", 0.07, "--kind", "conv")
    said = run(capsys, "evaluate", "--model", folder, "--data", "digits").splitlines()
    assert said[0] == f"cifar/vgg11 + padding circular: {ww.evaluate(ww.load_model(folder), ww.load_data('digits'))}"
    assert said[1].startswith("Note: cifar/vgg11 + padding circular has random weights")
    train = ("train", "--model", folder, "--data", "digits", "--recipe", "demo", "--epochs", 1, "--out")
    first = run(capsys, *train, tmp_path / "tuned").splitlines()[0]
    assert run(capsys, "evaluate", "--model", tmp_path / "tuned", "--data", "digits").splitlines() == [first]
    assert "gives 10 scores, and 12 classes" in fails(capsys, "sites", "--model", folder, "--classes", 12)


def test_a_network_is_exported_and_random_weights_are_noted(tmp_path, capsys):
    folder, file = tmp_path / "net", tmp_path / "net.pt2"
    ww.save(ww.load_model("cifar/vgg11", classes=10, width=0.07), folder)
    said = run(capsys, "export", "--model", folder, "--format", "torch-export", "--out", file).splitlines()
    assert said[0].startswith(f"cifar/vgg11: wrote {file}, checked with PyTorch ")
    assert "pictures (batch, 3, 32, 32)" in said[1]
    assert said[2].startswith("Note: cifar/vgg11 has random weights")
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(torch.export.load(str(file)).module()(x), ww.load_model(folder).module(x))


@pytest.mark.parametrize("command", ["train", "need trained", "need recover"])
def test_help_names_every_recipe(capsys, command):
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    said = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    assert set(ww.recipes) - {"boxes"} <= said
