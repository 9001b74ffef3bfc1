import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.transforms import InterpolationMode

import whatwhere as ww
from whatwhere.data.pixels import FILTERS, check_geometry
from whatwhere.errors import InputError
from whatwhere.fingerprints import fingerprint
from whatwhere.models.cifar import make
from whatwhere.models.load import load_model
from whatwhere.models.saved import save
from whatwhere.models.weights import load_weights, random_weights, read_tensors, save_weights

SLIM: dict[str, Any] = {"width": 1 / 16, "classes": 5}


def tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.contiguous() for k, v in net.state_dict().items()}


# ---- names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("cifar/vgg_16", "cifar/vgg16"),
        ("cifra/vgg16", "cifar/vgg16"),
        ("timm/resnet_18", "timm/resnet18"),
        ("torchvision/resnet-18", "torchvision/resnet18"),
        ("vgg16", "cifar/vgg16"),
        ("resnet18.a1_in2k", None),
        ("cifar/", "cifar/"),
    ],
)
def test_an_unknown_name_prints_the_nearest(name: str, nearest: str | None) -> None:
    with pytest.raises(InputError, match=f"model='{name}' matches nothing.*{nearest or ''}"):
        load_model(name)


def test_an_unknown_tag_prints_the_tags() -> None:
    with pytest.raises(InputError, match=r"Did you mean 'timm/resnet18\.a1_in1k'"):
        load_model("timm/resnet18.a1_in2k")


def test_options_that_do_not_belong() -> None:
    with pytest.raises(InputError, match=r"width=0\.5 is for cifar"):
        load_model("timm/resnet18", width=0.5)
    with pytest.raises(InputError, match="no weights to download"):
        load_model("cifar/vgg16", pretrained=True)


# ---- seeds, width, classes


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar/vgg11", SLIM),
        ("timm/test_resnet", {"classes": 5}),
        ("torchvision/squeezenet1_1", {"classes": 5}),
    ],
)
def test_seeds_are_bit_reproducible(name: str, options: dict[str, Any]) -> None:
    before = torch.get_rng_state()
    a = load_model(name, seed=1, **options)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    b, c = (load_model(name, seed=s, **options) for s in (1, 2))
    pairs = list(zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True))
    assert pairs
    assert all(torch.equal(p, q) for p, q in pairs)
    assert not torch.equal(next(a.module.parameters()), next(c.module.parameters()))
    assert not a.module.training
    assert a.name == name
    with torch.no_grad():
        assert a.module(torch.zeros(1, *a.input_size)).shape == (1, 5)


def test_width_factor() -> None:
    net = load_model("cifar/resnet20", width=0.5, classes=3).module
    assert net.conv1.out_channels == 8
    assert net.fc.in_features == 32
    assert load_model("cifar/resnet20", width=0.25).module.fc.out_features == 100


# ---- weights


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth.tar"])
def test_weights_come_back(tmp_path: Path, suffix: str) -> None:
    source, file = make("vgg11", seed=9, **SLIM), tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(tensors_of(source), file)
    else:
        torch.save({"state_dict": source.state_dict()} if "tar" in suffix else source.state_dict(), file)
    for weights in (file, str(file)):
        loaded = load_model("cifar/vgg11", weights=weights, **SLIM).module.state_dict()
        assert all(torch.equal(v, loaded[k]) for k, v in source.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file(tensors_of(make("vgg11", **SLIM)), file)
    with pytest.raises(InputError, match=r"do not fit the network.*'features.*conv1.*Check the model's name"):
        load_model("cifar/resnet20", weights=file, **SLIM)
    with pytest.raises(InputError, match="no tensor of this network's"):
        load_model("cifar/resnet20", weights=file, strict=False, **SLIM)
    with pytest.raises(InputError, match=r"size mismatch.*classes and width\.$"):
        load_model("cifar/vgg11", weights=file, strict=False, width=1 / 16, classes=6)


def test_strict_false_loads_what_there_is(tmp_path: Path) -> None:
    source, file = make("vgg11", seed=9, **SLIM), tmp_path / "w.safetensors"
    save_file({k: v for k, v in tensors_of(source).items() if k.startswith("features")}, file)
    with pytest.raises(
        InputError,
        match=r"do not fit the network: the network has 'classifier.0.weight' and 5 more, which the file has not.*strict=False",
    ):
        load_model("cifar/vgg11", weights=file, **SLIM)
    with pytest.warns(UserWarning, match=r"hold 48 of its 54 tensors, without 'classifier\.0\.weight', .* and 3 more"):
        net = load_model("cifar/vgg11", weights=file, strict=False, **SLIM).module
    assert torch.equal(net.features[0].weight, source.features[0].weight)
    assert not torch.equal(net.classifier[0].weight, source.classifier[0].weight)


class Runs:
    """A pickle that would run code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.target),))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("way", ["torch", "plain"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, way: str) -> None:
    file, target = tmp_path / "w.pt", tmp_path / "made"
    if way == "torch":
        torch.save({"weight": Runs(target)}, file)
    else:
        file.write_bytes(pickle.dumps({"weight": Runs(target)}))
    with pytest.raises(InputError, match=r"holds more than tensors.*safetensors"):
        read_tensors(file)
    assert not target.exists()
    pickle.loads(pickle.dumps(Runs(target)))  # it would have run
    assert target.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("w.safetensors", b"hello world, this is no such file"),
        ("w.safetensors", b""),
        ("w.pt", b"hello world"),
        ("w.pt", b""),
    ],
)
def test_what_is_no_weights_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"weights='.*' (cannot be read|holds more than tensors)"):
        load_model("cifar/vgg11", weights=file, **SLIM)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_file_cut_short_is_refused(tmp_path: Path, name: str) -> None:
    file, state = tmp_path / name, tensors_of(make("vgg11", **SLIM))
    if name == "w.pt":
        torch.save(state, file)
    else:
        save_file(state, file)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(InputError, match="cannot be read"):
        load_model("cifar/vgg11", weights=file, **SLIM)


@pytest.mark.parametrize(("value", "kind"), [([torch.ones(2)], "list"), (torch.ones(2), "Tensor")])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, value: Any, kind: str) -> None:
    torch.save(value, tmp_path / "w.pt")
    with pytest.raises(InputError, match=f"holds a {kind}, not a state_dict"):
        read_tensors(tmp_path / "w.pt")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pt", tmp_path):
        with pytest.raises(InputError, match="no such file"):
            load_weights(nn.Linear(1, 1), path)


# ---- weights that are downloaded


def refused(*_: Any, **__: Any) -> Any:
    raise OSError("no route to host")


def lost(*_: Any, **__: Any) -> Any:
    """As huggingface_hub tells it: a sentence about a cache, and the reason behind it."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    raise LocalEntryNotFoundError("we cannot find the requested files in the local cache") from OSError(
        "no route to host"
    )


@pytest.mark.parametrize(("library", "name"), [("timm", "timm/resnet18"), ("torchvision", "torchvision/squeezenet1_1")])
@pytest.mark.parametrize("error", [lost, refused])
def test_weights_that_cannot_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, library: str, name: str, error: Any
) -> None:
    monkeypatch.setattr(timm, "create_model", error)
    monkeypatch.setattr(torchvision.models, "get_model", error)
    message = rf"pretrained=True: {library} could not download .* of {name} \(no route to host\).*weights=FILE"
    with pytest.raises(InputError, match=message):
        load_model(name, pretrained=True)


def test_an_error_that_is_no_downloads_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(ZeroDivisionError):
        load_model("timm/resnet18", pretrained=True)


def test_timm_has_no_weights_of_some_networks() -> None:
    with pytest.raises(InputError, match=r"pretrained=True: timm has no weights of resnetblur18; give weights=FILE"):
        load_model("timm/resnetblur18", pretrained=True)


@pytest.mark.parametrize("name", ["torchvision/lraspp_mobilenet_v3_large", "pspnet/resnet18"])
def test_segmentation_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(timm, "create_model", lost)
    monkeypatch.setattr(torchvision.models, "get_model", lost)
    with pytest.raises(InputError, match=r"could not download .* \(no route to host\).*weights=FILE"):
        load_model(name, pretrained=True)
    if name.startswith("pspnet"):
        monkeypatch.undo()
        with pytest.raises(InputError, match="timm has no weights of resnetblur18"):
            load_model("pspnet/resnetblur18", pretrained=True)


def test_smps_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    monkeypatch.setitem(smp.MODEL_ARCHITECTURES_MAPPING, "unet", lost)
    with pytest.raises(InputError, match=r"segmentation_models_pytorch could not download .* \(no route to host\)"):
        load_model("smp/unet/resnet18", pretrained=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"has no ImageNet weights of dpn68b; .* weights=FILE"):
        load_model("smp/unet/dpn68b", pretrained=True)


# ---- preprocessing


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050", "resnet18"])
def test_timms_preprocessing_is_timms_own_transform(name: str) -> None:
    net = load_model(f"timm/{name}")
    module = timm.create_model(name)
    config = timm.data.resolve_data_config(model=module)
    own = timm.data.create_transform(**config, is_training=False).transforms
    p = net.preprocessing
    resize, crop, normalise = own[0], own[1], own[-1]
    assert p.mean == tuple(normalise.mean.tolist()) or p.mean == pytest.approx(normalise.mean.tolist())
    assert p.std == pytest.approx(normalise.std.tolist())
    assert p.size == tuple(crop.size)
    assert p.interpolation == resize.interpolation.value
    assert int(p.size[0] / p.crop_pct) == (resize.size if isinstance(resize.size, int) else resize.size[0])
    assert net.input_size == (3, *p.size)
    check_geometry(p)


def test_interpolations_are_ones_that_the_data_room_knows() -> None:
    configs = timm.models._registry._model_pretrained_cfgs.values()
    assert {c.interpolation for c in configs} <= set(FILTERS)
    for name in torchvision.models.list_models(module=torchvision.models):
        for weights in torchvision.models.get_model_weights(name):
            assert weights.transforms().interpolation.value in FILTERS


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_a_crop_mode_that_is_not_followed_is_recorded(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    from timm.data import config as room

    resolve = room.resolve_data_config
    monkeypatch.setattr(room, "resolve_data_config", lambda **kw: {**resolve(**kw), "crop_mode": mode})
    source = load_model("timm/test_resnet").preprocessing.source
    assert ("replaced by a centre crop" in source) == (mode != "center")
    assert (f"'{mode}'" in source) == (mode != "center")


@pytest.mark.parametrize(
    ("name", "crop", "resize", "kind"),
    [
        ("squeezenet1_1", 224, 256, "bilinear"),
        ("mobilenet_v3_small", 224, 256, "bilinear"),
        ("efficientnet_b0", 224, 256, "bicubic"),
        ("efficientnet_b1", 240, 256, "bicubic"),
        ("resnet18", 224, 256, "bilinear"),
    ],
)
def test_torchvisions_presets(name: str, crop: int, resize: int, kind: str) -> None:
    net = load_model(f"torchvision/{name}", classes=2)
    p = net.preprocessing
    assert (p.size, round(crop / p.crop_pct), p.interpolation) == ((crop, crop), resize, kind)
    assert InterpolationMode(p.interpolation)
    assert p.mean == (0.485, 0.456, 0.406)
    assert net.input_size == (3, crop, crop)
    assert p.source.endswith(f"preset of {name}, IMAGENET1K_V1")


def test_downloaded_weights_bring_their_own_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-50's default weights were trained by another recipe than its first: 232, not 256 pixels."""
    asked = {}

    def get_model(name: str, **options: Any) -> nn.Module:
        asked.update(options)
        return nn.Conv2d(3, 3, 1)

    monkeypatch.setattr(torchvision.models, "get_model", get_model)
    p = load_model("torchvision/resnet50", pretrained=True).preprocessing
    chosen = torchvision.models.get_model_weights("resnet50")[asked["weights"]]
    assert round(224 / p.crop_pct) == chosen.transforms().resize_size[0] == 232
    assert p.source.endswith(chosen.name)
    assert round(224 / load_model("torchvision/resnet50").preprocessing.crop_pct) == 256


def test_cifars_preprocessing() -> None:
    net = load_model("cifar/vgg11", **SLIM)
    assert (net.input_size, net.preprocessing.size) == ((3, 32, 32), None)
    assert net.preprocessing.mean == (0.5071, 0.4865, 0.4409)


def test_tied_weights_are_saved_under_all_their_names(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    net[2].weight = nn.Parameter(net[0].weight.data.t())  # a view of the same memory
    before = {k: v.clone() for k, v in net.state_dict().items()}
    save_weights(net, tmp_path / "w.safetensors")
    again = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    load_weights(again, tmp_path / "w.safetensors")
    assert all(torch.equal(v, before[k]) for k, v in again.state_dict().items())


# ---- sizes


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "cifar/vgg16",
            {"width": 400.0},
            r"width=400: cifar/vgg16 would have .* parameters, which take \d+\.\d TB, and",
        ),
        ("pspnet/resnet18", {"width": 2000.0}, r"width=2000: pspnet/resnet18 would have .* TB, and"),
        (
            "timm/test_resnet",
            {"classes": 10**11},
            r"width=1, classes=100000000000: timm/test_resnet would have .* TB, and",
        ),
        ("torchvision/squeezenet1_1", {"classes": 10**11}, "would have .* TB, and"),
        ("cifar/vgg16", {"width": 1e6}, "tensors of more than 9 EB each, and"),
        ("cifar/vgg16", {"width": 1e30}, "tensors of more than 9 EB each, and"),
    ],
)
def test_a_network_larger_than_the_memory_is_refused_before_it_is_made(
    name: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", lambda t, **_: made.append(t.is_meta) or t)
    with pytest.raises(InputError, match=message):
        load_model(name, **options)
    assert all(made)


@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf"), "wide"])
def test_a_width_that_cannot_be_is_refused(width: Any) -> None:
    with pytest.raises(InputError, match="give a width above 0"):
        load_model("cifar/vgg11", width=width)


def test_a_module_is_no_name() -> None:
    with pytest.raises(InputError, match="give a name, such as 'timm/resnet18'; a module is a network as it is"):
        load_model(nn.ReLU())  # type: ignore[arg-type]


# ---- folders


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved network in the current directory."""
    monkeypatch.chdir(tmp_path)
    return save(load_model("cifar/vgg11", seed=3, **SLIM), "small")


def test_a_folder_is_loaded_by_its_path_however_it_is_written(folder: Path) -> None:
    x = torch.randn(2, 3, 32, 32)
    expected = load_model("cifar/vgg11", seed=3, **SLIM).module(x)
    for name in (
        "small",
        "./small",
        "small/",
        folder,
        folder.resolve(),
        str(folder.resolve()),
        f"../{Path.cwd().name}/small",
    ):
        net = load_model(name)
        assert torch.equal(net.module(x), expected)
        assert not net.module.training


def test_a_folder_with_a_librarys_name_is_a_folder_only_if_ww_save_wrote_it(folder: Path) -> None:
    other = Path("cifar/vgg11")
    other.mkdir(parents=True)
    (other / "config.json").write_text('{"architecture": "resnet18"}')
    assert load_model("cifar/vgg11", width=1 / 16).module.classifier[-1].out_features == 100
    save(load_model("cifar/vgg11", **SLIM), other, overwrite=True)
    assert load_model("cifar/vgg11").module.classifier[-1].out_features == 5


def test_weights_of_a_file_replace_those_of_the_folder(folder: Path) -> None:
    trained = load_model("cifar/vgg11", seed=9, **SLIM)
    save_weights(trained.module, "w.safetensors")
    net = load_model("small", weights="w.safetensors")
    assert all(torch.equal(v, trained.module.state_dict()[k]) for k, v in net.module.state_dict().items())
    save_weights(make("resnet20", **SLIM), "other.safetensors")
    with pytest.raises(InputError, match="do not fit the network"):
        load_model("small", weights="other.safetensors")


def test_the_layers_of_a_folder_with_fresh_weights(folder: Path) -> None:
    gated = ww.use.recalibrate(load_model("cifar/resnet20", **SLIM), "se")
    save(gated, "gated")
    again, same, other = (load_model("gated", fresh=True, seed=s) for s in (1, 1, 2))
    expected = ww.use.recalibrate(load_model("cifar/resnet20", seed=1, **SLIM), "se", seed=1)
    for key, value in expected.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[key], value)
        assert torch.equal(same.module.state_dict()[key], value)
    assert fingerprint(other.module) != fingerprint(again.module)
    assert random_weights(again)
    assert fingerprint(load_model("small", fresh=True, seed=4).module) == fingerprint(
        load_model("cifar/vgg11", seed=4, **SLIM).module
    )


def test_options_that_a_folder_decides_are_refused(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"pretrained=True, width=1: .*the folder small holds a network with its weights"
    ):
        load_model("small", pretrained=True)
    with pytest.raises(InputError, match=r"width=0\.5"):
        load_model("small", width=0.5)
    assert load_model("small", classes=4).base == load_model("cifar/vgg11", **SLIM, seed=3).base
    with pytest.raises(InputError, match=r"model='small' gives 5 scores, and 6 classes"):
        load_model("small", classes=6)


def test_random_weights_are_still_known_to_be_random(folder: Path) -> None:
    assert random_weights(load_model("small"))
    trained = load_model("small")
    with torch.no_grad():
        next(trained.module.parameters()).add_(1)
    assert not random_weights(load_model(save(trained, "trained")))
