"""The commands about one network, as a user types them."""

import pytest
import torch

import whatwhere as ww
from whatwhere.cli import main
from whatwhere.models.load import load_model, save_weights


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    assert exit_.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("options", [("--classes", "10", "--width", "0.5"), ("--width", "0.25"), ("--classes", "3")])
@pytest.mark.parametrize("site", ["layers.2.0", "layers.2.1:"])
def test_the_printed_recipe_gives_the_network_that_was_written(capsys, tmp_path, options, site):
    given = dict(zip(options[::2], options[1::2], strict=True))
    built = {"classes": int(given.get("--classes", 100)), "width": float(given.get("--width", 1))}
    weights, file = tmp_path / "w.safetensors", tmp_path / "small.safetensors"
    trained = load_model("cifar/resnet20", seed=7, **built)
    save_weights(trained.module, weights)
    common = ("--model", "cifar/resnet20", "--site", site, "--weights", str(weights), "--out", str(file))
    main(["collapse", *common, *options])
    _, recipe = capsys.readouterr().out.split("in Python:\n")
    names: dict = {}
    exec("\n".join(line.strip() for line in recipe.splitlines()), names)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["net"].module(x), ww.collapse(trained, site).module(x))


def test_a_file_of_another_kind_is_refused_before_anything_is_computed(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("whatwhere.cli.networks.load_model", lambda *_, **__: pytest.fail("loaded"))
    for name in ("small", "small.pt", "v1.0"):
        said = fails(
            capsys, "collapse", "--model", "cifar/resnet20", "--site", "layers.2.0", "--out", str(tmp_path / name)
        )
        assert f"{tmp_path / name}' is no name of a .safetensors file; give '{tmp_path / name}.safetensors'" in said
    assert not list(tmp_path.iterdir())


def test_an_unknown_kind_of_site_is_refused(capsys):
    said = fails(capsys, "sites", "--model", "cifar/resnet20", "--kind", "convv")
    assert "kind='convv' matches nothing. Did you mean 'conv'" in said
    assert "Choices: conv, conv1x1, norm, act, pool, linear, block, group, other." in said


def test_a_kind_that_a_network_has_none_of(capsys):
    main(["sites", "--model", "cifar/vgg11", "--kind", "block"])
    assert capsys.readouterr().out.splitlines()[0] == "cifar/vgg11 has no site of kind 'block'."
    main(["sites", "--model", "cifar/vgg11", "--select", "last 30%", "--kind", "block"])
    assert "no site of kind 'block' in the selection 'last 30%'." in capsys.readouterr().out


def test_every_kind_there_is_can_be_asked_for():
    from whatwhere.cli.networks import KINDS

    for name in ("cifar/resnet20", "timm/test_vit", "timm/test_convnext"):
        assert {s.kind for s in ww.sites(ww.load_model(name))} <= set(KINDS)
