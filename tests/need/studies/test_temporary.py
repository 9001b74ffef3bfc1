"""Removals by name, on transformers whose answer is known: what they need of *where* is in their position embedding."""

from collections.abc import Callable

import pytest
import torch

import whatwhere as ww
from small_tokens import transformer, vit
from whatwhere.data import Data, Split
from whatwhere.data.known_answer import Task, known_answer
from whatwhere.data.sources import Memory
from whatwhere.errors import InputError
from whatwhere.need.studies.result import LABELS, NeedResult, Point
from whatwhere.need.studies.temporary import INPUT, REMOVALS, places

CHANCE = 1 / 12
LAYER = "encoder.layers.encoder_layer_"
TOKENS = ("shared", "shared-sample", "prefix-swap", "embedding-zero", "embedding-mean", "embedding-permute")
RECIPES = {
    "what": ww.Recipe(
        epochs=6, batch_size=50, optimizer="adamw", lr=3e-3, weight_decay=0.01, crop_padding=0, flip=False
    ),
    "where": ww.Recipe(
        epochs=6, batch_size=125, optimizer="adamw", lr=6e-3, weight_decay=0.01, crop_padding=0, flip=False
    ),
}
SIZES = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0, "num_classes": 12}


def trained(task: Task, pos_embed: str) -> ww.Network:
    """A transformer of 16 tokens, trained for a second or two."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = vit(**SIZES, pos_embed=pos_embed)()
        if pos_embed == "learn" and task == "where":
            torch.nn.init.normal_(module.pos_embed, std=0.2)  # a small one is learned late
    net = ww.Network(module, input_size=(3, 32, 32), name=f"{task}-{pos_embed}")
    drawn = known_answer(task, train={"what": 1500, "where": 2000}[task], test=1)
    ww.fit(net, drawn.train, RECIPES[task], device="cpu")
    return net


@pytest.fixture(scope="session")
def curve_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], NeedResult]:
    found: dict[Task, NeedResult] = {}

    def curve(task: Task) -> NeedResult:
        if task not in found:
            data = known_answer(task, train=1, test=256)
            found[task] = ww.need.curve(trained(task, "learn"), data, methods=TOKENS, repeats=2, quiet=True)
        return found[task]

    return curve


def at(curve: NeedResult, method: str, site: str) -> Point:
    return next(p for p in curve.points if (p.method, p.site) == (method, site))


@pytest.mark.parametrize("task", ["what", "where"])
def test_permuting_tokens_behind_the_embedding_costs_nothing(curve_of, task: Task) -> None:
    curve = curve_of(task)
    assert curve.intact[0].accuracy.mean > 0.9
    for method in ("shared", "shared-sample"):
        for block in ("blocks.0", "blocks.1"):  # attention knows no order
            assert at(curve, method, block).values == (curve.intact[0].accuracy.mean,) * 2  # in each draw


def test_permuting_the_embedding_destroys_where_only(curve_of) -> None:
    for how in ("permute", "mean", "zero"):
        lost = at(curve_of("where"), f"embedding-{how}", INPUT)
        assert lost.accuracy.mean < 3 * CHANCE
        assert lost.depth_share == 1
    for how in ("permute", "mean"):
        drop = at(curve_of("what"), f"embedding-{how}", INPUT).drop
        assert drop
        assert drop.mean < 0.05


def test_removed_before_training_where_stays_at_chance() -> None:
    never, data = trained("where", "none"), known_answer("where", train=1, test=256)
    assert ww.evaluate(never, data).accuracy < 2 * CHANCE


def test_the_notes_say_what_is_done_to_which_tokens(curve_of) -> None:
    notes = " ".join(curve_of("where").notes)
    assert "1 prefix token (class token, registers) at the blocks' inputs have no position" in notes
    assert "shared, shared-sample keep them" in notes
    assert "prefix-swap: the prefix tokens that enter each block are those of other pictures" in notes
    assert "embedding-zero, embedding-mean, embedding-permute: all position embeddings, pos_embed (absolute)" in notes


def pictures(n: int, side: int = 32) -> Data:
    """Noise with labels of five classes: what is right is by chance, but not the same by each removal."""
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=draws)
    labels = torch.randint(0, 5, (n,), generator=draws)
    return Data("noise", {"test": Split("test", Memory(images), labels, list("abcde"))})


@torch.no_grad()
def test_points_are_what_the_interventions_give_alone() -> None:
    net, data = transformer("torchvision"), pictures(48)
    methods = ("merge-2", "prefix-mean", "embedding-mean", "mean")
    curve = ww.need.curve(net, data, methods=methods, batch_size=16, quiet=True)
    direct = {
        ("merge-2", f"{LAYER}1"): ww.need.pool(net, f"{LAYER}1:", window=2),
        ("prefix-mean", f"{LAYER}0"): ww.need.prefix(net, f"{LAYER}0:"),
        ("embedding-mean", INPUT): ww.need.embedding(net, "mean"),
    }
    batches = list(data.test.batches(16, geometry=net.preprocessing))
    found = []
    for (method, site), acts in direct.items():
        with acts:
            right = torch.cat([net.module(net.prepared(x)).argmax(1) == y for x, y in batches])
        found.append(at(curve, method, site).accuracy.mean)
        assert found[-1] == pytest.approx(float(right.float().mean()))
    assert len(set(found)) > 1
    assert not [p for p in curve.points if p.method == "prefix-mean" and p.site == "conv_proj"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pooled", {"methods": "prefix-swap"}, "methods: prefix-swap needs tokens before those of the map"),
        ("none", {"methods": "embedding-mean"}, "no position embedding was found"),
        ("vit", {"methods": "prefix-mean", "batch_size": 10}, "the last batch has one picture"),
    ],
)
def test_methods_without_a_place_are_refused_before_anything_runs(name, options, message) -> None:
    with pytest.raises(InputError, match=message):
        ww.need.curve(transformer(name), pictures(21), quiet=True, **options)


def test_where_each_method_acts() -> None:
    cuts = ww.sites(transformer("vit")).cuts
    assert places(("merge-2", "prefix-swap", "embedding-zero"), cuts) == [
        ("merge-2", "patch_embed.proj"),
        ("merge-2", "blocks.0"),
        ("prefix-swap", "blocks.0"),
        ("merge-2", "blocks.1"),
        ("prefix-swap", "blocks.1"),
        ("embedding-zero", INPUT),
    ]
    own = {name for name in REMOVALS if name.startswith(("merge", "prefix", "embedding")) or name.endswith("-sample")}
    assert own <= set(LABELS)
