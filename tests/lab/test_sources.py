"""What a study is given: by name, so that other processes can load it; or as an object, which stays here."""

import os
import pickle

import pytest
from PIL import Image
from torch import nn

import whatwhere as ww
from whatwhere.data.load import load_pictures
from whatwhere.errors import InputError
from whatwhere.lab.sources import GivenData, GivenNetwork, Held, place
from whatwhere.models.weights import save_weights


def test_pictures_by_name_are_loaded_once_and_sent_by_name():
    source = GivenData.of("digits")
    assert source.data is GivenData.of("digits").data
    sent = pickle.dumps(source)
    assert len(sent) < 200
    assert pickle.loads(sent).data is source.data


def test_a_folder_that_changed_is_read_again(tmp_path):
    for i in range(3):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    before = GivenData.of(tmp_path).data.test
    assert GivenData.of(tmp_path).data.test is before
    Image.new("RGB", (8, 8), (9, 0, 0)).save(tmp_path / "3.png")
    assert len(GivenData.of(tmp_path).data.test) == 4
    first = GivenData.of(tmp_path).data.test.fingerprint
    Image.new("RGB", (8, 8), (7, 7, 7)).save(tmp_path / "3.png")
    os.utime(tmp_path / "3.png", ns=(1, 1))
    assert GivenData.of(tmp_path).data.test.fingerprint != first


def test_pictures_in_hand_stay_in_this_process():
    data = load_pictures("digits")
    source = GivenData.of(data)
    assert source.data is data
    with pytest.raises(InputError, match="data was given as an object"):
        pickle.dumps(source)


def test_scenes_and_pictures_are_told_apart():
    assert GivenData.of("drawn/streets").scenes.classes
    with pytest.raises(InputError, match="holds scenes"):
        _ = GivenData.of("drawn/streets").data


def test_a_network_by_name_is_sent_without_its_weights():
    source = GivenNetwork.of("cifar/vgg11", None, {"width": 0.07, "classes": 10})
    sent = pickle.dumps(source)
    assert len(sent) < 400
    assert pickle.loads(sent).net is source.net
    assert source.net.name == "cifar/vgg11"


def test_a_file_that_was_written_again_is_another_network(tmp_path):
    file = tmp_path / "w.safetensors"
    nets = [ww.load_model("cifar/vgg11", width=0.07, classes=10, seed=s) for s in (1, 2)]
    found = []
    for i, net in enumerate(nets):
        save_weights(net.module, file)
        os.utime(file, ns=(i, i))
        found.append(GivenNetwork.of("cifar/vgg11", str(file), {"width": 0.07, "classes": 10}).net)
    for net, loaded in zip(nets, found, strict=True):
        assert next(net.module.parameters()).equal(next(loaded.module.parameters()))


def test_a_folder_that_was_written_again_is_another_network(tmp_path):
    found = []
    for i in (1, 2):
        net = ww.load_model("cifar/vgg11", width=0.07, classes=10, seed=i)
        folder = str(ww.save(net, tmp_path / "net"))
        for file in (tmp_path / "net").iterdir():
            os.utime(file, ns=(i, i))
        source = GivenNetwork.of(folder, None, {"width": 1.0, "classes": 10})
        assert next(source.net.module.parameters()).equal(next(net.module.parameters()))
        assert pickle.loads(pickle.dumps(source)).net is source.net
        found.append(source.net)
    assert found[0] is not found[1]


def test_a_module_in_hand_stays_in_this_process():
    module = nn.Conv2d(3, 3, 1)
    source = GivenNetwork.of(module)
    assert source.net.module is module
    with pytest.raises(InputError, match="model was given as an object"):
        pickle.dumps(source)
    for options in ({"width": 0.5}, {"classes": 7}, {"pretrained": True}):
        with pytest.raises(InputError, match=f"{next(iter(options))}: for a network by name"):
            GivenNetwork.of(module, None, options)
    with pytest.raises(InputError, match="weights: for a network by name"):
        GivenNetwork.of(module, "w.safetensors", {"width": 1.0, "classes": None, "pretrained": False})
    with pytest.raises(InputError, match=r"net must be a torch\.nn\.Module"):
        GivenNetwork.of(3)


def test_a_held_object_says_what_to_give_instead():
    with pytest.raises(InputError, match=r"give model by name \(a network of your own as 'package\.module:function'"):
        pickle.dumps(Held("model", 1))


def test_a_device_that_is_not_there_is_named():
    net = ww.Network(nn.Conv2d(3, 3, 1))
    assert place(net, "auto") is net
    with pytest.raises(InputError, match="device='nonsense' cannot be used"):
        place(net, "nonsense")
