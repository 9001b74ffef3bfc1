"""What needs a GPU, in the order of what it tells: commands as a user types them; each goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

Options: TypeAlias = Mapping[str, str]
CIFAR, CAMVID = "cifar100", "camvid"  # names of data, as --data NAME=PATH gives them
PICTURES = {CIFAR: 50_000, CAMVID: 367}  # to train on
STUDIES = (
    "need trained",
    "need curve",
    "hold readout",
    "use compare",
    "say compare",
)  # have a result of what is finished


@dataclass(frozen=True)
class Trainings:
    """What a step trains, for an estimate of its time.

    Attributes:
        model: the network's name.
        networks: how many of it.
        epochs: of each.
        side: of the pictures, in pixels.
    """

    model: str
    networks: int
    epochs: int
    side: int = 32


@dataclass(frozen=True)
class Step:
    """A command.

    Attributes:
        command: the words in front of the options: of `whatwhere`, or a script of this folder.
        options: by name; {cifar100}, {camvid} are folders of data, {out} is the folder of results.
        toy: options of the dry run, which replace these.
        trains: what it trains, if it does.
    """

    command: str
    options: Options
    toy: Options = field(default_factory=dict)
    trains: Trainings | None = None

    @property
    def is_script(self) -> bool:
        """Whether it is a script of this folder."""
        return self.command.endswith(".py")

    def words(self, folders: Options, *, dry: bool = False, **more: str) -> list[str]:
        """As typed, without the program."""
        given = {**self.options, **more, **(self.toy if dry else {})}
        return [*self.command.split(), *(w for name, v in given.items() for w in (f"--{name}", v.format(**folders)))]


@dataclass(frozen=True)
class Entry:
    """A question.

    Attributes:
        name: of its folder of results.
        title: what is asked.
        data: that it needs; "" for none.
        steps: in order.
        beside: whether it trains one network at a time, which leaves a GPU room for other entries.
    """

    name: str
    title: str
    data: str
    steps: tuple[Step, ...]
    beside: bool = False


SMALL = {"epochs": "1", "batch_size": "8", "precision": "32-true"}  # of the dry run
TINY = {**SMALL, "model": "cifar/vgg11", "width": "0.07"}
# Every convolution of VGG-16 as the first without space: the paper's depths, its intact network besides.
DEPTHS = ",".join(f"{(k + 0.5) / 13:.2f}" for k in range(1, 13)) + ",1.0"


EPOCHS = 60  # of the recipe fan2020-cifar-fast


def _curve(model: str, methods: str, shares: str, seeds: str, out: str, **more: str) -> Step:
    networks = (1 + shares.count(",") + 1) * (seeds.count(",") + 1) * (methods.count(",") + 1)
    given = {
        "model": f"cifar/{model}",
        "data": "{cifar100}",
        "methods": methods,
        "shares": shares,
        "seeds": seeds,
        "recipe": "fan2020-cifar-fast",
        "epochs": str(EPOCHS),
        "precision": "bf16-mixed",
        "fused": "true",
        "out": f"{{out}}/{out}",
        **more,
    }
    toy = {**TINY, "shares": "0.62", "seeds": "0", "repeats": "1"}
    return Step("need trained", given, toy, Trainings(f"cifar/{model}", networks, EPOCHS))


def _gates(model: str) -> Step:
    given = {
        "model": f"cifar/{model}",
        "data": "{cifar100}",
        "methods": "none,se,ms_sar,ms_sar-identity",
        "seeds": "0,1,2",
        "recipe": "fast",
        "epochs": "60",
        "precision": "bf16-mixed",
        "fused": "true",
        "out": f"{{out}}/gates-{model}",
    }
    toy = {**SMALL, "model": "cifar/resnet20", "width": "0.25", "methods": "none,se", "seeds": "0"}
    return Step("use compare", given, toy, Trainings(f"cifar/{model}", 12, 60))


def _vit(name: str) -> tuple[Step, Step, Step]:
    model = f"reproductions.vit.networks:{name}"
    folder = f"{{out}}/vit-{name}"
    network = {"model": model, "weights": f"{folder}/weights.safetensors", "data": "{cifar100}"}
    methods = "per-channel,shared,mean,merge-2,prefix-mean,prefix-swap"
    embedding = ",embedding-zero,embedding-mean,embedding-permute" if name == "learned" else ""
    trained = {"model": model, "data": "{cifar100}", "recipe": "vit", "precision": "bf16-mixed", "out": folder}
    curve = {**network, "methods": methods + embedding, "repeats": "10", "batch_size": "100", "out": f"{folder}-need"}
    hold = {
        **network,
        "sites": "cuts",
        "targets": "H,G",
        "kernels": "1",
        "size": "8",
        "untrained": "2",
        "paddings": "[]",
        "blanks": "[]",
        "out": f"{folder}-hold",
    }
    few = {"limit": "8", "batch_size": "4", "repeats": "1", "methods": "mean"}
    read = {"pictures": "12", "test_pictures": "8", "untrained": "1", "sites": "blocks.3", "targets": "H"}
    return (
        Step("train", trained, SMALL, Trainings(model, 1, 100)),
        Step("need curve", curve, few),
        Step("hold readout", hold, read),
    )


SCENES = Step(
    "say train",
    {"model": "pspnet/resnet50", "data": "{camvid}", "precision": "bf16-mixed", "out": "{out}/pspnet"},
    {"model": "pspnet/resnet18", "width": "0.1", "epochs": "1", "crop": "32,32", "precision": "32-true"},
    Trainings("pspnet/resnet50", 1, 60, 256),
)
KINDS = Step(
    "say compare",
    {
        "model": "pspnet/resnet50",
        "weights": "{out}/pspnet/weights.safetensors",
        "data": "{camvid}",
        "sites": "backbone.layer4,fuse",
        "concepts": "reproductions/losch2019/concepts.json",
        "out": "{out}/say",
    },
    {
        "model": "pspnet/resnet18",
        "width": "0.1",
        "sites": "backbone.layer4",
        "kinds": "ssb,random",
        "epochs": "1",
        "concepts": "{camvid}/concepts.json",
    },
)
SPEED = (
    Step(
        "benchmarks/training.py",
        {
            "device": "{device}",
            "steps": "100",
            "rounds": "4",
            "workers": "8",
            "options": "plain,bf16,compiled bf16",
            "out": "{out}/speed-training.json",
        },
        {"networks": "ResNet-20", "options": "plain", "steps": "1", "rounds": "2", "workers": "0"},
    ),
    Step(
        "benchmarks/need.py",
        {"device": "{device}", "pictures": "10000", "batch": "500", "rounds": "1", "out": "{out}/speed-curve.json"},
        {"pictures": "2", "batch": "2", "rounds": "1"},
    ),
)
FEW_SHARES = "0.31,0.54,0.77,1.0"


def _vit_alone(name: str, how: str) -> Entry:
    return Entry(f"vit-{name}", f"A ViT {how} position embedding: need and hold", CIFAR, _vit(name), beside=True)


@cache
def book() -> tuple[Entry, ...]:
    """Every entry, the most telling first."""
    seeds = ("0", "0,1,2")  # one seed at all depths before the others
    return (
        Entry(
            "vgg16-gap-fc",
            "VGG-16 on CIFAR-100: GAP+FC at the paper's 14 depths",
            CIFAR,
            tuple(_curve("vgg16", "gap_fc", DEPTHS, s, "vgg16") for s in seeds),
        ),
        Entry(
            "vgg16-shuffle",
            "The same by per-channel shuffling in training and testing",
            CIFAR,
            tuple(_curve("vgg16", "gap_fc,per-channel", DEPTHS, s, "vgg16") for s in seeds),
        ),
        Entry(
            "resnet50",
            "ResNet-50 for small pictures: GAP+FC and per-channel shuffling",
            CIFAR,
            tuple(_curve("resnet50", "gap_fc,per-channel", FEW_SHARES, s, "resnet50") for s in seeds),
        ),
        Entry(
            "gates",
            "SE and MS-SAR, and gates of exactly 1 before training, in ResNet-20, ResNet-56 and DenseNet-40",
            CIFAR,
            tuple(_gates(model) for model in ("resnet20", "resnet56", "densenet40")),
        ),
        _vit_alone("learned", "with a learned"),
        _vit_alone("none", "without"),
        Entry(
            "say",
            "PSPNet-ResNet-50 on CamVid, and bottlenecks of all kinds in it",
            CAMVID,
            (SCENES, KINDS),
            beside=True,
        ),
        Entry("speed", "Training against the plain loop, the curve against the hook loop", "", SPEED),
    )
