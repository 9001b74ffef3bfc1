"""Networks of transformers': the library's own numbers, sites, and everything that is done at sites."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import whatwhere as ww
from small_transformers import SIDE, kinds, write
from whatwhere.data import Data
from whatwhere.data.drawn_scenes import drawn_streets
from whatwhere.errors import InputError
from whatwhere.interventions import Intervention
from whatwhere.label_maps import CLASS, IGNORE
from whatwhere.models import hugging_face
from whatwhere.models.weights import random_weights

pytest.importorskip("transformers")

KINDS = ("vit", "dinov2", "clip", "convnext", "segformer")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hf")
    return {kind: write(root / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def nets(folders: dict[str, Path]) -> dict[str, ww.Network]:
    return {kind: ww.load_model(folder) for kind, folder in folders.items()}


def pictures(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_librarys_own_output(
    kind: str, folders: dict[str, Path], nets: dict[str, ww.Network]
) -> None:
    own = kinds()[kind][0].from_pretrained(folders[kind]).eval()
    with torch.no_grad():
        said, got = own(pictures()), nets[kind].module(pictures())
    expected = said.logits if "logits" in said else said.pooler_output
    assert torch.equal(got, expected)
    assert nets[kind].name == f"hf/{kind}"
    assert nets[kind].input_size == (3, SIDE, SIDE)
    assert not random_weights(nets[kind])


@pytest.mark.parametrize(
    ("kind", "site", "layout", "cuts"),
    [
        (
            "vit",
            "model.vit.layers.1",
            "tokens+1",
            ["model.vit.embeddings.patch_embeddings.projection", "model.vit.layers.0", "model.vit.layers.1"],
        ),
        (
            "dinov2",
            "model.encoder.layer.1",
            "tokens+5",
            ["model.embeddings.patch_embeddings.projection", "model.encoder.layer.0", "model.encoder.layer.1"],
        ),
        (
            "clip",
            "model.encoder.layers.1",
            "tokens+1",
            ["model.embeddings.patch_embedding", "model.encoder.layers.0", "model.encoder.layers.1"],
        ),
    ],
)
def test_sites_and_cuts_of_tokens(
    kind: str, site: str, layout: str, cuts: list[str], nets: dict[str, ww.Network]
) -> None:
    table = ww.sites(nets[kind])
    (there,) = table.select(site)
    assert (there.layout, there.shape_in) == (layout, (16, 4, 4))
    assert [c.name for c in table.cuts] == cuts


def test_maps_of_convnext_are_never_taken_for_channels_last(nets: dict[str, ww.Network]) -> None:
    # 8 channels at 8 x 8 and 16 at 4 x 4: the shape does not tell, and its LayerNorms take either layout.
    shapes = {s.module: (s.layout, s.shape_in, s.shape) for s in ww.sites(nets["convnext"])}
    for stage, (before, after) in enumerate([((8, 8, 8), (16, 4, 4)), ((16, 4, 4), (24, 2, 2))], 1):
        assert shapes[f"model.convnextv2.encoder.stages.{stage}"] == ("NCHW", before, after)
        assert shapes[f"model.convnextv2.encoder.stages.{stage}.downsampling_layer.0"] == ("NCHW", before, before)


def test_segformers_reduced_keys_are_not_taken_for_its_map(nets: dict[str, ww.Network]) -> None:
    table = ww.sites(nets["segformer"])
    blocks = [s for s in table if s.module.endswith((".layernorm_after", ".mlp.fc1"))]
    assert [(s.layout, s.shape_in) for s in blocks] == [
        ("tokens+0", (c, n, n)) for c, n in ((8, 8), (16, 4), (24, 2)) for _ in "ab"
    ]
    assert table.cuts[-1].name == "model.segformer.stages.1"  # the decoder reads the maps of all stages


def test_segformers_scores_are_resized_as_its_documentation_says(
    nets: dict[str, ww.Network], folders: dict[str, Path]
) -> None:
    from transformers import AutoImageProcessor

    net = nets["segformer"]
    scenes = drawn_streets(train=1, validation=1, test=2, size=(SIDE, SIDE))
    processor, found = (
        AutoImageProcessor.from_pretrained(folders["segformer"]),
        ww.evaluate(replace(net, module=_Enough(net.module, len(scenes.classes))), scenes),
    )
    counted = torch.zeros_like(found.confusions)
    with torch.no_grad():
        for i, (picture, maps) in enumerate(scenes.test.rows()):
            given = kinds()["segformer"][0].from_pretrained(folders["segformer"]).eval()(net.prepared(picture[None]))
            (said,) = processor.post_process_semantic_segmentation(given, target_sizes=[(SIDE, SIDE)])
            for true, seen in zip(maps[CLASS].flatten().tolist(), said.flatten().tolist(), strict=True):
                if true != IGNORE:
                    counted[i, true, seen] += 1
    assert torch.equal(found.confusions, counted)


class _Enough(torch.nn.Module):
    """Scores for more classes than there are, which are never the highest."""

    def __init__(self, module: torch.nn.Module, classes: int) -> None:
        super().__init__()
        self.module, self.classes = module, classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.module(x)
        return functional.pad(scores, (0, 0, 0, 0, 0, self.classes - scores.shape[1]), value=-1e9)


@pytest.mark.parametrize(("kind", "site"), [("dinov2", "model.encoder.layer.1"), ("clip", "model.encoder.layers.1")])
def test_shuffling_moves_patch_tokens_and_no_other(kind: str, site: str, nets: dict[str, ww.Network]) -> None:
    net, table = nets[kind], ww.sites(nets[kind])
    seen: list[torch.Tensor] = []
    handle = net.module.get_submodule(site).register_forward_pre_hook(lambda m, a: seen.append(a[0].clone()))
    try:
        with torch.no_grad():
            net.module(pictures())
            with ww.need.shuffle(net, site, mode="shared", seed=3, table=table):
                net.module.get_submodule(site)._forward_pre_hooks.move_to_end(handle.id)
                net.module(pictures())
    finally:
        handle.remove()
    before, after = seen
    prefix = before.shape[1] - 16
    assert torch.equal(before[:, :prefix], after[:, :prefix])
    order = [
        [torch.equal(before[:, prefix + i], after[:, prefix + j]) for i in range(16)].index(True) for j in range(16)
    ]
    assert sorted(order) == list(range(16))
    assert order != list(range(16))


def test_the_curve_of_a_vit_equals_full_forward_passes(nets: dict[str, ww.Network], digits: Data) -> None:
    data = Data("digits", {"test": digits.test.take(40)})
    curve = ww.need.curve(nets["vit"], data, methods=("mean", "gap_fc"), batch_size=40, quiet=True)
    for point in curve.points:
        if point.method == "mean":
            with ww.need.pool(nets["vit"], f"{point.site}:"):
                assert point.accuracy.mean == ww.evaluate(nets["vit"], data).accuracy


def test_position_is_read_at_a_hugging_face_block(nets: dict[str, ww.Network], digits: Data) -> None:
    options: dict[str, Any] = {"targets": ("H",), "kernels": (1,), "pictures": 12, "test_pictures": 4, "untrained": 1}
    sites = ("model.encoder.layer.0", "model.encoder.layer.1")
    held = ww.hold.readout(nets["dinov2"], digits, sites=sites, paddings=(), blanks=(), quiet=True, **options)
    rows = {(r.network, r.site) for r in held.rows if r.site in sites}
    assert rows >= {(network, site) for network in ("network", "untrained") for site in sites}


def test_a_collapsed_network_of_hugging_face_is_saved_and_comes_back(
    nets: dict[str, ww.Network], tmp_path: Path
) -> None:
    small = ww.need.collapse(nets["vit"], "model.vit.layers.1")
    ww.save(small, tmp_path / "small")
    again = ww.load_model(tmp_path / "small")
    with torch.no_grad():
        assert torch.equal(again.module(pictures()), small.module(pictures()))


def test_hooks_are_where_they_were_after_an_intervention(nets: dict[str, ww.Network]) -> None:
    net = nets["segformer"]
    hooks = [len(m._forward_hooks) for m in net.module.modules()]
    with torch.no_grad():
        before = net.module(pictures())
        with ww.need.pool(net) as pooled:
            assert isinstance(pooled, Intervention)
            assert not torch.equal(net.module(pictures()), before)
        assert torch.equal(net.module(pictures()), before)
    assert [len(m._forward_hooks) for m in net.module.modules()] == hooks


# ---- weights


def test_a_pooler_that_the_file_lacks_is_passed_by(tmp_path: Path) -> None:
    import transformers as t

    _, config, processor, options = kinds()["vit"]
    backbone = t.ViTModel(config, add_pooling_layer=False).eval()  # as DINO's files are
    backbone.save_pretrained(tmp_path)
    processor(**options).save_pretrained(tmp_path)
    net = ww.load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(net.module(pictures()), backbone(pictures()).last_hidden_state[:, 0])
    assert not net.partial


def test_the_vision_tower_of_clip_is_taken_from_both(tmp_path: Path) -> None:
    import transformers as t

    tower = kinds()["clip"][1].to_dict()
    text = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 20,
    }
    both = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=tower, projection_dim=8)).eval()
    both.save_pretrained(tmp_path)
    t.CLIPImageProcessor(**kinds()["clip"][3]).save_pretrained(tmp_path)
    net = ww.load_model(tmp_path)
    with torch.no_grad():
        assert torch.equal(net.module(pictures()), both.vision_model(pictures()).pooler_output)
    assert not net.partial


def test_another_number_of_classes_gets_a_new_head_and_says_so(
    folders: dict[str, Path], nets: dict[str, ww.Network]
) -> None:
    net = ww.load_model(f"hf/{folders['vit']}", pretrained=True, classes=4)
    assert net.module(pictures()).shape == (2, 4)
    assert "without 'classifier.bias', 'classifier.weight'" in random_weights(net)[0]
    own, given = net.module.state_dict(), nets["vit"].module.state_dict()
    assert all(torch.equal(own[n], given[n]) for n in own if "classifier" not in n)


def test_without_pretrained_weights_are_drawn_from_the_seed(folders: dict[str, Path]) -> None:
    a, b, c = (ww.load_model(f"hf/{folders['vit']}", seed=seed, classes=10) for seed in (0, 0, 1))
    fresh = ww.load_model(folders["vit"], fresh=True)
    name = "model.vit.layers.0.attention.q_proj.weight"
    states = [n.module.state_dict()[name] for n in (a, b, c, fresh)]
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[3])
    assert not torch.equal(states[0], states[2])
    assert "random weights" in random_weights(fresh)[0]


def test_untrained_vectors_become_those_of_a_new_network(nets: dict[str, ww.Network]) -> None:
    module = ww.untrained(nets["dinov2"], 0).module
    assert "as in a new Dinov2WithRegistersModel of transformers'" in str(module.surgery)
    assert torch.equal(module.model.encoder.layer[0].layer_scale1.lambda1, torch.ones(16))
    assert not torch.equal(
        module.model.embeddings.position_embeddings, nets["dinov2"].module.model.embeddings.position_embeddings
    )


# ---- what is refused


def test_weights_that_are_pickled_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_text((folders["vit"] / file).read_text())
    torch.save({"vit.embeddings.cls_token": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"cannot be loaded.*must hold config.json, model.safetensors and preproc"):
        ww.load_model(tmp_path)


def test_a_folder_without_a_processor_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folders["vit"] / "config.json").read_text())
    with pytest.raises(
        InputError, match=r"model='hf/.*must hold config.json, model.safetensors and preprocessor_config"
    ):
        ww.load_model(tmp_path)


def test_without_the_hub_the_message_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_connection(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files.")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", no_connection)
    with pytest.raises(
        InputError,
        match=r"hf/a/b'.*couldn't connect.*`hf download a/b --local-dir FOLDER`.*--model FOLDER.*`hf auth login`",
    ):
        ww.load_model("hf/a/b", pretrained=True)


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'whatwhere\[transformers\]'"):
        ww.load_model("hf/a/b")


def test_code_of_a_repository_is_not_run(folders: dict[str, Path], tmp_path: Path) -> None:
    plain = json.loads((folders["vit"] / "config.json").read_text())
    plain |= {"model_type": "of-mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    (tmp_path / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="code of its own is not run"):
        ww.load_model(tmp_path)


def test_networks_that_take_no_pictures_are_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    import transformers as t

    t.BertModel(
        t.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    ).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text((folders["vit"] / "preprocessor_config.json").read_text())
    with pytest.raises(InputError, match="takes input_ids; give a network that takes pictures"):
        ww.load_model(tmp_path)


def test_other_folders_are_not_taken_for_one(tmp_path: Path) -> None:
    assert not hugging_face.is_folder_of_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert not hugging_face.is_folder_of_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    assert not hugging_face.is_folder_of_hugging_face(tmp_path)
