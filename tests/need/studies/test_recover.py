"""Collapse, fine-tune, compare: known answers, cells, resuming, refusals."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import whatwhere as ww
from small_engine import Elsewhere
from small_stripes import data, network, pictures
from whatwhere.cli import main
from whatwhere.data import Data, Split
from whatwhere.errors import InputError
from whatwhere.intervals import Estimate
from whatwhere.models.weights import save_weights
from whatwhere.need.studies.recover_result import _back
from whatwhere.need.studies.recover_worker import RecoverWorker
from whatwhere.training import checkpoint

RECIPE = ww.Recipe(epochs=6, batch_size=16, lr=0.05, crop_padding=0, flip=False)
EDGES = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]) / 8


@pytest.fixture(scope="module")
def striped() -> ww.Network:
    net = network()
    ww.fit(net, data().train, RECIPE, device="cpu")
    assert ww.evaluate(net, data()).accuracy > 0.95
    return net


def recover(net: ww.Network, source: Data, out=None, how=(), **options):
    return ww.need.Recover(net, source, **{"sites": ("0",), "recipe": RECIPE, "seeds": (0,), **options}).run(
        out, quiet=True, device="cpu", **dict(how)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("recover")


@pytest.fixture(scope="module")
def result(striped, folder):
    return recover(striped, data(), folder)


def values(found, row: str, measure: str = "accuracy") -> tuple[float, ...]:
    return found[row].values[measure]


def test_what_depends_on_where_does_not_come_back(result):
    share = result["0, fine-tuned"].measured["share recovered"]
    assert share.low <= 0 <= share.high < 0.5
    assert values(result, "0, fine-tuned") == pytest.approx((0.5,), abs=0.1)
    assert "Fine-tuning recovers" in result.conclusion
    assert "(60 test pictures, one seed)" in result.conclusion


def test_nothing_is_not_said_to_be_less_than_nothing():
    assert _back("c4", Estimate(-0.001, -0.05, 0.05, 0.0, 9, 1), "accuracy").startswith("0 % [-5, 5] of the accuracy")


def test_what_the_mean_tells_comes_back():
    """Kernels that sum to zero see nothing in a mean; how many dots there are stands in the mean all the same."""
    net, dots = network(), data("dots")
    conv, head = net.module[0], net.module[4]
    with torch.no_grad():
        conv.weight.copy_(EDGES.expand_as(conv.weight) * torch.linspace(-1, 1, 8)[:, None, None, None])
        conv.bias.fill_(0.1)
    for p in conv.parameters():
        p.requires_grad_(False)
    ww.fit(net, dots.train, replace(RECIPE, epochs=12), device="cpu")
    for p in conv.parameters():
        p.requires_grad_(True)
    found = recover(net, dots, recipe=replace(RECIPE, epochs=20))
    assert values(found, "intact")[0] > 0.9
    assert values(found, "0")[0] == 0.5  # one answer for all
    share = found["0, fine-tuned"].measured["share recovered"]
    assert share.low > 0.5
    assert head.weight.requires_grad


def test_a_collapse_that_costs_nothing_is_said_so(striped):
    dots, net = data("dots"), network(1)
    ww.fit(net, dots.train, replace(RECIPE, epochs=12), device="cpu")
    found = recover(net, dots)
    assert "share recovered" not in found["0, fine-tuned"].measured
    assert found.conclusion.startswith("GAP+FC from 0 on loses no significant accuracy even before fine-tuning: ")


def test_each_number_is_what_a_loop_of_ones_own_gives(striped, folder, result):
    """The slow way: collapse, fit and count by hand, network by network."""
    intact, small, test = copy.deepcopy(striped.module), ww.need.collapse(striped, "0"), data().test
    tuned = {"intact": replace(striped, module=intact), "0": ww.need.collapse(striped, "0")}
    for net in tuned.values():
        ww.fit(net, data().train, RECIPE, seed=0, device="cpu")

    def right(net: ww.Network) -> Tensor:
        images, labels = next(test.batches(len(test)))
        with torch.no_grad():
            return net.module.eval()(net.preprocessing.normalise(images)).argmax(1) == labels

    hits = {"intact": right(striped), "0": right(small), **{f"{n}, fine-tuned": right(net) for n, net in tuned.items()}}
    for name, own in hits.items():
        assert values(result, name) == (own.float().mean().item(),)
        if name != "intact, fine-tuned":
            lost = (hits["intact, fine-tuned"].float() - own.float()).mean().item()
            assert values(result, name, "below intact fine-tuned") == pytest.approx((lost,))
    gained = (hits["0, fine-tuned"].float() - hits["0"].float()).mean().item()
    assert values(result, "0, fine-tuned", "gained") == pytest.approx((gained,))
    for name, net in tuned.items():
        (file,) = result.weights[f"{name}, fine-tuned"]
        kept = load_file(folder / file)
        assert all(torch.equal(kept[k], v) for k, v in net.module.state_dict().items())
    for site, net in (("", striped), ("0", small)):
        cost = ww.cost(net, input_size=(3, 8, 8), seconds=0)
        assert result.cost[site] == {"parameters": cost.parameters, "flops": cost.flops}


def test_the_given_network_is_left_alone(striped):
    before = {k: v.clone() for k, v in striped.module.state_dict().items()}
    mode = torch.get_rng_state()
    recover(striped, data(), recipe=replace(RECIPE, epochs=1))
    assert torch.equal(torch.get_rng_state(), mode)
    assert all(torch.equal(before[k], v) for k, v in striped.module.state_dict().items())
    assert not striped.module.training
    assert striped.input_size is None


def test_the_result_is_read_back_with_its_page(folder, result):
    back = ww.load_result(folder)
    assert isinstance(back, ww.need.RecoverResult)
    assert (back.rows, back.each, back.cost, back.weights) == (result.rows, result.each, result.cost, result.weights)
    assert (back.conclusion, back.table()) == (result.conclusion, result.table())
    page = (folder / "index.html").read_text()
    assert result.conclusion in page
    assert result.weights["0, fine-tuned"][0] in page
    table = (folder / "table.csv").read_text().splitlines()
    assert len(table) == 1 + 4
    assert "share recovered %" in table[0]
    assert [line["row"] for line in result.each_table()] == ["intact, fine-tuned", "0, fine-tuned"]
    assert (folder / result.each_table()[1]["weights"]).is_file()
    assert len(result.to_frame()) == sum(len(r.measured) for r in result.rows)


def test_finished_cells_are_not_run_again_and_seeds_and_sites_may_be_added(striped, folder, result, monkeypatch):
    ran, call = [], RecoverWorker.__call__
    monkeypatch.setattr(
        RecoverWorker,
        "__call__",
        lambda self, c: ran.append((c["do"], c["site"], c.get("seed"))) or call(self, c),
    )
    assert recover(striped, data(), folder).rows == result.rows
    assert ran == []
    more = recover(striped, data(), folder, seeds=(1,), sites=("0", "1"))
    assert set(ran) == {("test", "1", None), ("tune", "0", 1), ("tune", "1", 1), ("tune", None, 1)}
    assert more["0, fine-tuned"].measured["accuracy"].repeats == 2
    assert more["1, fine-tuned"].measured["accuracy"].repeats == 1
    assert values(more, "0, fine-tuned")[1:] == values(result, "0, fine-tuned")


def test_a_killed_training_goes_on_and_ends_bit_for_bit_as_if_it_had_not(
    striped, folder, result, tmp_path, monkeypatch
):
    save = checkpoint.save

    def killed(path, progress, *given, **about):
        save(path, progress, *given, **about)
        if progress.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        recover(striped, data(), tmp_path)
    monkeypatch.setattr(checkpoint, "save", save)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1
    seen, load = [], checkpoint.load

    def loading(path, progress, *given, **about):
        load(path, progress, *given, **about)
        seen.append(progress.epoch)

    monkeypatch.setattr(checkpoint, "load", loading)
    again = recover(striped, data(), tmp_path)
    assert seen == [3]
    assert (again.rows, again.weights) == (result.rows, result.weights)
    for file in (f for there in again.weights.values() for f in there):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()
    assert not list((tmp_path / "checkpoints").iterdir())


def test_what_is_missing_is_named(striped, folder, result, tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "study.json").write_bytes((folder / "study.json").read_bytes())
    with pytest.raises(InputError, match="no cell is finished"):
        recover(striped, data(), tmp_path, how={"fold_only": True})
    for file in (folder / "cells").iterdir():
        config = json.loads(file.read_text())["config"]
        if config.get("seed") is None or config["site"] == "0":
            (tmp_path / "cells" / file.name).write_bytes(file.read_bytes())
    partial = recover(striped, data(), tmp_path, how={"fold_only": True})
    assert [r.name for r in partial.rows if not r.name.startswith("1")] == ["intact", "0", "0, fine-tuned"]
    assert "Not finished: intact, seed 0." in partial.notes
    assert "gained" in partial["0, fine-tuned"].measured
    assert "share recovered" not in partial["0, fine-tuned"].measured
    assert partial.conclusion == ""
    assert partial.table()


def test_another_recipe_or_network_in_the_same_folder_is_refused(striped, folder, result):
    with pytest.raises(InputError, match=r"another study[\s\S]*recipe"):
        recover(striped, data(), folder, lr=0.5)
    with pytest.raises(InputError, match=r"another study[\s\S]*weights"):
        recover(network(5), data(), folder)


def loaders() -> Data:
    splits = {name: TensorDataset(torch.rand(32, 3, 8, 8), torch.arange(32) % 2) for name in ("train", "test")}
    found = ww.load_data({name: DataLoader(each, 16) for name, each in splits.items()})
    assert isinstance(found, Data)
    return found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sites": ()}, "sites is empty"),
        ({"sites": ("layer4",)}, r"layer4.*matches nothing"),
        ({"seeds": (-1,)}, r"seeds=\(-1,\)"),
        ({"pictures": 0}, "pictures=0"),
        ({"limit": 0}, "limit=0"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 129}, "batch_size=129 is more than the 128 training pictures"),
        ({"pictures": 10}, "batch_size=16 is more than the 10 training pictures"),
        ({"recipe": "finetun"}, "'finetune'"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_runs(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        recover(network(), data(), tmp_path, **given)
    assert not list(tmp_path.glob("cells/*"))


def test_networks_and_pictures_that_cannot_be_fine_tuned_are_refused():
    frozen, normed = network(), network()
    for p in frozen.module.parameters():
        p.requires_grad_(False)
    with pytest.raises(InputError, match="no parameter takes a gradient"):
        recover(frozen, data())
    normed.module.insert(1, nn.BatchNorm2d(8))
    with pytest.raises(InputError, match="batch_size=1: batch norm"):
        recover(normed, data(), batch_size=1)
    with pytest.raises(InputError, match="give the DataLoader's Dataset for train"):
        recover(network(), loaders())
    with pytest.raises(InputError, match="no split to train on"):
        recover(network(), Data("one", {"test": pictures("dots", 20, 0)}))


def test_half_precision_is_trained_in_single():
    net, before = network(), network().module.half().state_dict()
    net.module.half()
    found = recover(net, data(), recipe=replace(RECIPE, epochs=1))
    assert 0 <= values(found, "0, fine-tuned")[0] <= 1
    assert all(torch.equal(before[k], v) and v.dtype == torch.float16 for k, v in net.module.state_dict().items())


def test_from_the_command_line_to_a_network_in_python(tmp_path, capsys):
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    save_weights(net.module, tmp_path / "w.safetensors")
    words = f"--model cifar/vgg11 --width 0.07 --weights {tmp_path / 'w.safetensors'} --data digits --seeds 0 --quiet"
    more = "--epochs 1 --batch-size 32 --pictures 64 --limit 30 --augment false --out"
    main(["need", "recover", *words.split(), *more.split(), str(tmp_path / "out")])
    assert f"open {tmp_path / 'out' / 'index.html'}" in capsys.readouterr().out
    found = ww.load_result(tmp_path / "out")
    assert isinstance(found, ww.need.RecoverResult)
    assert found.sites == ["features.22"]
    assert [note for note in found.notes if "whatwhere evaluate --model FOLDER" in note]
    assert not [note for note in found.notes if note.startswith("To load")]
    (kept,) = found.weights["features.22, fine-tuned"]
    assert kept in (tmp_path / "out" / "index.html").read_text()
    tuned = ww.load_model(tmp_path / "out" / kept)
    assert tuned.classes == tuple("0123456789")
    assert tuned.name == "cifar/vgg11 + GAP before features.22"
    digits = ww.load_data("digits")
    assert isinstance(digits, Data)
    tested = ww.evaluate(tuned, digits.test.take(30))
    assert tested.accuracy == found["features.22, fine-tuned"].values["accuracy"][0]
    (intact,) = found.weights["intact, fine-tuned"]
    main(["evaluate", "--model", str(tmp_path / "out" / intact), "--data", "digits"])
    assert capsys.readouterr().out.startswith("cifar/vgg11: ")


def test_networks_that_are_kept_elsewhere_as_another_process_would(tmp_path):
    net = ww.load_model("cifar/vgg11", classes=10, width=0.07)
    folder = ww.save(ww.hold.with_padding(net, "circular"), tmp_path / "net")
    small = {"epochs": 1, "batch_size": 32, "pictures": 64, "limit": 30, "augment": False}
    study = ww.need.Recover(str(folder), "digits", sites=("features.22",), seeds=(0, 1), **small)
    found = study.run(tmp_path / "out", quiet=True, engine=Elsewhere(), weights_folder=tmp_path / "scratch")
    for row in ("features.22, fine-tuned", "intact, fine-tuned"):
        for kept, accuracy in zip(found.weights[row], found[row].values["accuracy"], strict=True):
            tuned = ww.load_model(tmp_path / "scratch" / kept)
            assert "padding circular" in tuned.name
            assert ww.evaluate(tuned, ww.load_data("digits").test.take(30)).accuracy == accuracy


# Frozen prefixes, distillation, and the end of a training


def deeper(seed: int = 0) -> ww.Network:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first = [nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()]
        second = [nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
        module = nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    return ww.Network(module.eval(), name="deeper", input_size=(3, 8, 8))


@pytest.fixture(scope="module")
def trained() -> ww.Network:
    net = deeper()
    ww.fit(net, data().train, replace(RECIPE, epochs=12), device="cpu")
    assert ww.evaluate(net, data()).accuracy > 0.95
    return net


ASKED = {"sites": ("3",), "freeze": "prefix", "norms": "keep", "distill": 0.5, "seeds": (0, 1)}
ENDS = {"until": "allowed", "validation": 0.25, "allowed": 20.0}


@pytest.fixture(scope="module")
def frozen_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frozen")


@pytest.fixture(scope="module")
def frozen_result(trained, frozen_folder):
    return recover(trained, data(), frozen_folder, **ASKED, **ENDS)


def test_what_lies_before_the_site_is_kept_and_the_rest_comes_back(trained, frozen_folder, frozen_result):
    """A trained first layer tells lying from standing stripes by its mean."""
    before = trained.module.state_dict()
    for row in ("3, fine-tuned", "intact, fine-tuned from 3 on"):
        assert len(frozen_result.weights[row]) == 2
        for file in frozen_result.weights[row]:
            kept = load_file(frozen_folder / file)
            prefix = [k for k in kept if k.split(".")[0] in "01"]
            assert len(prefix) == 7
            assert all(torch.equal(kept[k], before[k]) for k in prefix)
            assert not torch.equal(kept["8.weight"], before["8.weight"])
    assert "Is 3, fine-tuned, within 20 points of the intact network? As it was given: " in frozen_result.conclusion
    assert ww.load_result(frozen_folder).conclusion == frozen_result.conclusion


def test_where_a_training_ended_is_noted_and_the_control_went_on(frozen_folder, frozen_result):
    cells = [json.loads(f.read_text()) for f in (frozen_folder / "cells").iterdir()]
    tuned = [c for c in cells if c["config"]["do"] == "tune"]
    for cell in tuned:
        epochs, site, seed = cell["result"]["epochs"], cell["config"]["site"], cell["config"]["seed"]
        if site is None:
            assert len(epochs) == RECIPE.epochs
            continue
        assert [e["enough"] for e in epochs] == [100 * e["behind_high"] <= 20 for e in epochs]
        assert not any(e["enough"] for e in epochs[:-1])
        assert len(epochs) == RECIPE.epochs or epochs[-1]["enough"]
        (note,) = [n for n in frozen_result.notes if n.startswith(f"{site}, seed {seed}: epoch {len(epochs)} of 6")]
        assert note.endswith("on 32 held-out pictures.")
    assert len(tuned) == 4


@pytest.mark.parametrize("until", ["end", "allowed"])
def test_a_killed_frozen_distillation_goes_on_bit_for_bit(trained, tmp_path, monkeypatch, until):
    ends = {**ENDS, "allowed": 30.0} if until == "allowed" else {}
    options = {**ASKED, **ends, "seeds": (0,), "lr": 0.02}
    whole = recover(trained, data(), tmp_path / "whole", **options)
    save = checkpoint.save

    def killed(path, progress, *given, **about):
        save(path, progress, *given, **about)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    for _ in range(3):  # once after every epoch, also after one that was enough
        with pytest.raises(KeyboardInterrupt):
            recover(trained, data(), tmp_path / "killed", **options)
    monkeypatch.setattr(checkpoint, "save", save)
    again = recover(trained, data(), tmp_path / "killed", **options)
    assert (again.rows, again.weights, again.conclusion) == (whole.rows, whole.weights, whole.conclusion)
    for file in (f for there in again.weights.values() for f in there):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_training_that_was_enough_is_not_gone_on_with_after_a_kill(trained, tmp_path, monkeypatch):
    options = {**ASKED, **ENDS, "seeds": (0,), "allowed": 90.0}
    save, epochs = checkpoint.save, []

    def killed(path, progress, *given, **about):
        save(path, progress, *given, **about)
        epochs.append(progress.epoch)
        if progress.history[-1].get("enough"):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        recover(trained, data(), tmp_path, **options)
    again = recover(trained, data(), tmp_path, **options)
    assert epochs == [1, 1, 2, 3, 4, 5, 6]  # one of the collapsed network, all of the control
    assert [n for n in again.notes if n.startswith("3, seed 0: epoch 1 of 6 was enough")]


def test_pictures_without_labels_bring_back_what_labels_do(trained):
    labelled = data()
    none = torch.full((len(labelled.train),), -1)
    train = Split("train", labelled.train.source, none, labelled.train.classes)
    found = recover(
        trained,
        Data("stripes", {"train": train, "test": labelled.test}),
        sites=("3",),
        freeze="prefix",
        distill=1,
        recipe=replace(RECIPE, epochs=40),
    )
    other = recover(trained, labelled, sites=("3",), freeze="prefix", recipe=replace(RECIPE, epochs=40))
    given, by_labels = values(found, "3")[0], values(other, "3, fine-tuned")[0]
    assert values(found, "3, fine-tuned")[0] >= max(given, by_labels - 0.1)


def named_and_unlabelled(net):
    """The classes that the network names in the place of labels; and the pictures without labels."""
    named = {}
    for name, split in data().splits.items():
        images, _ = next(split.batches(len(split)))
        with torch.no_grad():
            named[name] = Split(name, split.source, net.module(net.prepared(images)).argmax(1), ["a", "b"])
    plain = Data("plain", {n: Split(n, s.source, torch.full((len(s),), -1)) for n, s in named.items()})
    return Data("named", named), plain


@pytest.mark.parametrize("freeze", ["nothing", "prefix"])
def test_agreement_ends_a_training_without_labels(freeze):
    """Where accuracy on the classes that the network names would end it: on pictures, and on values at the site."""
    net = deeper()
    ww.fit(net, data().train, RECIPE, device="cpu")
    named, plain = named_and_unlabelled(net)
    options = {"distill": 1.0, "seeds": (0,), "until": "allowed", "validation": 0.25, "allowed": 40.0, "sites": ("3",)}
    agreed = recover(net, plain, score="agreement", freeze=freeze, **options)
    right = recover(net, named, freeze=freeze, **options)
    ends = [n for n in agreed.notes if n.startswith("3, seed 0: epoch")]
    assert len(ends) == 1
    assert ends == [n for n in right.notes if n.startswith("3, seed 0: epoch")]


def test_agreement_with_the_network_as_it_was_given_needs_no_labels(striped, tmp_path):
    """The labels are forgotten; with the classes that the network names in their place, accuracy is the same number."""
    named, plain = named_and_unlabelled(striped)
    options = {"distill": 1.0, "seeds": (0,)}
    agreed = recover(striped, plain, tmp_path, score="agreement", **options)
    right = recover(striped, named, **options)
    for row in ("0", "0, fine-tuned", "intact, fine-tuned"):
        assert agreed[row].values["agreement"] == right[row].values["accuracy"]
        assert {m: e for m, e in agreed[row].measured.items() if m != "agreement"} == {
            m: e for m, e in right[row].measured.items() if m != "accuracy"
        }
    assert agreed["intact"].measured["agreement"].low == 1.0
    assert "of the agreement with the network as it was given that GAP+FC from 0 on had lost" in agreed.conclusion
    assert (agreed.chance, right.chance) == (None, 0.5)
    assert "agreement lost" not in (page := (tmp_path / "index.html").read_text())
    assert "agreement with the network as it was given lost" in page
    with pytest.raises(InputError, match="these pictures have no labels"):
        recover(striped, plain, **options)
    with pytest.raises(InputError, match="score='kl': choose 'accuracy' or 'top5' or 'agreement'"):
        recover(striped, data(), score="kl")
