"""The worker of fine-tuning: which pictures and network, and where the weights go."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

import whatwhere as ww
from small_stripes import data, network
from whatwhere.lab.cells import Cell
from whatwhere.lab.packed import unpack
from whatwhere.need.studies.recover_worker import fewer, for_pictures, weights_name
from whatwhere.need.studies.recover_worker import tested as measured


def test_a_worker_is_sent_with_names_alone():
    study = ww.need.Recover("cifar/vgg11", "digits", width=0.07, pictures=64, limit=20)
    worker = study.planned().worker(ww.Run("out"))
    assert pickle.loads(pickle.dumps(worker)) == worker
    assert (len(worker.data.train), len(worker.data.test)) == (64, 20)
    assert len(pickle.dumps(worker)) < 2000


def test_weights_are_named_by_what_they_are_of():
    for site, word in (("layer4.0", "layer4.0"), (None, "intact"), ("a/b c#2", "a_b_c#2")):
        config = {"site": site, "seed": 3}
        assert weights_name(config) == f"weights/{word}-seed3-{Cell(config).key}.safetensors"


def test_weights_of_a_control_say_where_its_prefix_ends():
    config = {"site": None, "frozen_before": "features.20", "seed": 1}
    assert weights_name(config) == f"weights/intact-from-features.20-seed1-{Cell(config).key}.safetensors"


def test_networks_by_name_are_kept_in_folders_and_weights_of_others_in_files(tmp_path):
    named = ww.need.Recover("cifar/vgg11", "digits", width=0.07, sites=("0",)).planned().worker(ww.Run(tmp_path))
    config = {"site": "features.18", "seed": 1}
    assert named.kept(config) == f"weights/features.18-seed1-{Cell(config).key}"
    assert named.weights(config) == tmp_path / named.kept(config) / "weights.safetensors"
    given = worker(tmp_path)
    assert given.kept(config) == weights_name(config)
    assert given.weights(config) == tmp_path / weights_name(config)


def test_pictures_are_as_many_as_were_asked_for_and_of_both_classes():
    few = fewer(data(), 10, 4)
    assert (len(few.train), len(few.test)) == (10, 4)
    assert few.train.labels.bincount().tolist() == [5, 5]
    whole = fewer(data(), None, None)
    assert (len(whole.train), len(whole.test)) == (128, 60)


def test_a_tested_network_keeps_which_pictures_were_right():
    net, pictures = network(), data()
    found = measured(net, pictures)
    images, labels = next(pictures.test.batches(60))
    with torch.no_grad():
        right = net.module(net.preprocessing.normalise(images)).argmax(1) == labels
    assert unpack(found["hits"]).tolist() == right.long().tolist()
    assert (found["n"], found["accuracy"]) == (60, pytest.approx(right.float().mean().item()))


def worker(tmp_path):
    study = ww.need.Recover(network(), data(), sites=("0",), seeds=(0,))
    return study.planned().worker(ww.Run(tmp_path, device="cpu"))


def test_the_network_is_a_copy_collapsed_or_not(tmp_path):
    made = worker(tmp_path)
    given = made.network.net
    intact, small = made.network_at(None), made.network_at("0")
    assert intact.module is not given.module
    assert intact.input_size == small.input_size == (3, 8, 8)
    with torch.no_grad():
        intact.module[0].weight.zero_()
    assert given.module[0].weight.any()
    assert given.input_size is None
    assert ww.cost(small, seconds=0).parameters == 8 * 3 + 8 + 8 * 2 + 2  # kernels are summed


def test_a_cell_that_tests_trains_nothing(tmp_path, monkeypatch):
    made = worker(tmp_path)
    monkeypatch.setattr("whatwhere.lab.trainer.fit", lambda *_, **__: pytest.fail("trained"))
    intact, small = (made({"do": "test", "site": site}) for site in (None, "0"))
    net = for_pictures(network(), data())
    assert intact == measured(net, data())
    assert small == measured(ww.need.collapse(net, "0"), data())


def test_a_cell_that_trains_names_its_weights_and_tests_what_it_trained(tmp_path, monkeypatch):
    made = worker(tmp_path)

    def fit(net, split, recipe, **options):
        with torch.no_grad():
            linear = [m for m in net.module.modules() if isinstance(m, nn.Linear)][-1]
            linear.bias.copy_(torch.tensor([100.0, -100.0]))  # class 0, whatever it sees
        return type("History", (), {"epochs": []})()

    monkeypatch.setattr("whatwhere.lab.trainer.fit", fit)
    config = {"do": "tune", "site": "0", "seed": 0, "recipe": ww.Recipe(epochs=1, batch_size=16).to_dict()}
    found = made(config)
    assert unpack(found["hits"]).tolist() == np.tile([1, 0], 30).tolist()
    assert found["weights"] == weights_name(config)
    assert (tmp_path / found["weights"]).is_file()
