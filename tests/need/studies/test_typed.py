"""What a page says to type makes what the study measured."""

import json
import shlex

import pytest
import torch

import whatwhere as ww
from whatwhere.arguments import call, parsed
from whatwhere.cli import main
from whatwhere.lab.sources import GivenNetwork
from whatwhere.lab.study import loaded
from whatwhere.models.weights import save_weights
from whatwhere.need import COMMANDS
from whatwhere.need.cuts import cut_at_share, cuts_of
from whatwhere.need.studies.recover import Recover
from whatwhere.need.studies.trained import Trained
from whatwhere.need.studies.typed import recover_command, share_text, trained_command


def test_a_curves_commands_make_the_networks_that_it_measured(trained, tmp_path, monkeypatch):
    weights = tmp_path / "my weights.safetensors"  # a shell would take it apart
    save_weights(trained.module, weights)
    study = ww.need.Curve("cifar/vgg11", "digits", str(weights), width=0.125, methods=("gap_fc",), limit=60)
    curve = study.run(tmp_path / "out", quiet=True)
    data = ww.load_data("digits").test.take(60)
    assert len(curve.commands) == len(curve.points) == 8
    for p, command in list(zip(curve.points, curve.commands.values(), strict=True))[:2]:
        words = shlex.split(command)
        assert words[:3] == ["whatwhere", "need", "collapse"]
        monkeypatch.chdir(tmp_path)
        call("whatwhere need collapse", loaded(COMMANDS["collapse"]), words[3:])
        small = ww.load_model("small")
        assert small.module.surgery.site == p.site
        assert parsed("whatwhere need collapse", loaded(COMMANDS["collapse"]), words[3:])["site"] == p.site
        assert ww.evaluate(small, data).accuracy == pytest.approx(p.accuracy.mean)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "need collapse --model cifar/vgg11" in page
    assert ww.load_result(tmp_path / "out").commands == curve.commands


def test_a_saved_networks_own_folder_is_not_written_to(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ww.save(trained, "small")
    curve = ww.need.curve("small", "digits", methods="gap_fc", sites="features.25", limit=60, quiet=True)
    (command,) = curve.commands.values()
    main(shlex.split(command)[1:])
    found = ww.evaluate(ww.load_model("smaller"), ww.load_data("digits").test.take(60))
    assert found.accuracy == pytest.approx(curve.points[0].accuracy.mean)


def test_of_a_module_the_call_is_given(trained, digits):
    curve = ww.need.curve(trained, digits, methods="gap_fc", sites="features.25", quiet=True)
    names = {"ww": ww, "net": trained}
    exec(*curve.commands.values(), names)
    assert ww.evaluate(names["small"], digits).accuracy == pytest.approx(curve.points[0].accuracy.mean)


def test_a_share_and_the_site_of_the_curve_make_the_same_network(trained):
    """The reported case: 'last 38 %' was cut before a batch norm, the curve before the convolution behind it."""
    net = ww.load_model("cifar/vgg16", classes=3, width=1 / 16)
    cut = cut_at_share(cuts_of(ww.sites(net)), 0.38)
    by_share, by_site = ww.need.collapse(net, "last 38%"), ww.need.collapse(net, cut.name)
    x = torch.randn(2, 3, 32, 32)
    assert by_share.module.surgery == by_site.module.surgery
    assert torch.equal(by_share.module(x), by_site.module(x))


@pytest.mark.parametrize("model", ["cifar/vgg16", "cifar/resnet20", "cifar/resnet50"])
def test_a_command_to_train_names_the_share_of_its_cut(model):
    net = ww.load_model(model, classes=3, width=0.125)
    cuts = cuts_of(ww.sites(net))
    for cut in cuts:
        words = shlex.split(trained_command(model, "my data", 0.125, share_text(cuts, cut)))
        options = parsed("whatwhere need trained", Trained, words[3:])
        assert cut_at_share(cuts, options["shares"][0]) is cut
        assert (options["model"], options["data"], options["width"]) == (model, "my data", 0.125)


def test_a_command_to_fine_tune_says_what_was_said_of_the_network():
    source = GivenNetwork("cifar/vgg11", json.dumps({"weights": "my w.pt", "classes": 3, "width": 0.125}))
    words = shlex.split(recover_command(source, "my data", "features.11"))
    options = parsed("whatwhere need recover", Recover, words[3:])
    assert (options["model"], options["data"], options["sites"]) == ("cifar/vgg11", "my data", ("features.11",))
    assert (options["weights"], options["classes"], options["width"]) == ("my w.pt", 3, 0.125)


@pytest.mark.parametrize("method", ["gap_fc", "pointwise-average", "truncate"])
def test_lines_load_a_network_that_was_trained_after_surgery(method, tmp_path, monkeypatch):
    recipe = ww.Recipe(epochs=1, batch_size=128, lr=0.02, crop_padding=0, flip=False)
    study = Trained("cifar/vgg11", "digits", recipe=recipe, width=0.0625, shares=(0.5,), seeds=(0,), methods=(method,))
    found = study.run(tmp_path, quiet=True)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(*found.commands.values(), names)
    assert ww.evaluate(names["net"], ww.load_data("digits")).accuracy == pytest.approx(found.points[0].accuracy.mean)
    weights = found.provenance["weights"]
    assert set(weights) == {f.stem for f in (tmp_path / "weights").iterdir()}
    from whatwhere.fingerprints import fingerprint

    assert fingerprint(names["net"].module) in weights.values()
