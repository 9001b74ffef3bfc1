"""Hugging Face's networks, by their id on the hub or from a folder in its layout, through transformers.

Weights are read as safetensors only, and no code of a repository is ever run.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError
from whatwhere.files import read_json
from whatwhere.models.processors import preprocessing_of
from whatwhere.models.seeding import seeded
from whatwhere.network import Network, Preprocessing
from whatwhere.site import evaluating

FAMILY = "hf/"
WEIGHTS = "model.safetensors"
LAYOUT = f"config.json, {WEIGHTS} and preprocessor_config.json, as save_pretrained writes them"
LOGITS, POOLED, FIRST, DENSE = "logits", "pooler_output", "class token", "last_hidden_state"
HEADS = {
    "ForImageClassification": "AutoModelForImageClassification",
    "ForSemanticSegmentation": "AutoModelForSemanticSegmentation",
}


class OneOutput(nn.Module):
    """A network of transformers', which gives several tensors by name, as one from pictures to a single tensor.

    Args:
        model: the network.
        output: `logits`: scores (N, classes), or (N, classes, h, w) of a segmentation network, at a fourth of the
            pictures' size as SegFormer gives them (they are brought to the labels' size where they are compared);
            `pooler_output`: features (N, C); `class token`: the first token of the last hidden state, (N, C);
            `last_hidden_state`: (N, tokens, C) or (N, C, h, w).
    """

    def __init__(self, model: nn.Module, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, channels, H, W) to the tensor that `output` names."""
        given = self.model(pictures)
        if self.output == FIRST:
            return given.last_hidden_state[:, 0]
        found = getattr(given, self.output)
        return found.flatten(1) if self.output == POOLED else found

    def extra_repr(self) -> str:
        """Which output."""
        return f"output={self.output!r}"


def is_folder_of_hugging_face(folder: Path) -> bool:
    """Whether a folder holds a network as transformers' `save_pretrained` writes it."""
    if not (folder / "config.json").is_file():
        return False
    try:
        plain = read_json(folder / "config.json")
    except InputError:
        return False
    return isinstance(plain, dict) and "model_type" in plain


def from_hugging_face(name: str, *, pretrained: bool, classes: int | None, width: float, seed: int) -> Network:
    """A network by its id on the hub, or by the path of a folder.

    Args:
        name: such as `google/vit-base-patch16-224`, or `./folder`.
        pretrained: with its weights; else they are drawn, and the hub is asked for its configuration only.
        classes: number of scores; another number than the network's gives it a new, untrained last layer.
        width: 1.
        seed: of what is drawn.

    Raises:
        InputError: if it cannot be had, or is none that takes pictures; the message says what to type.
    """
    place = os.path.expanduser(name)
    with _found(name), _silent():
        config = _config(place, classes)
        make, processor = _maker(config, classes), _transformers().AutoImageProcessor.from_pretrained(place)
        model, drawn = seeded(seed, lambda: _made(make, place, config, pretrained))
    if model.main_input_name != "pixel_values":
        raise InputError(f"model='{FAMILY}{name}' takes {model.main_input_name}; give a network that takes pictures.")
    shown = Path(place).resolve().name if Path(place).is_dir() else name
    preprocessing = preprocessing_of(processor, f"{FAMILY}{shown}")
    size = _input_size(config, preprocessing)
    module = OneOutput(model.eval(), _output_of(model, size))
    net = Network(module, preprocessing, f"{FAMILY}{shown}", size, classes=_class_names(config, module.output))
    net.partial = _partial(name, drawn, module)
    return net


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            "hf/… networks need the package transformers: pip install 'whatwhere[transformers]'."
        ) from error
    return transformers


def _config(name: str, classes: int | None) -> Any:
    """The configuration of what takes pictures: of two towers the one for these."""
    config = _transformers().AutoConfig.from_pretrained(name)
    if config.model_type == "timm_wrapper":
        raise InputError(f"model='{FAMILY}{name}' is a network of timm's; give timm/NAME, as timm calls it.")
    towers = getattr(config, "vision_config", None)
    config = copy.deepcopy(config if towers is None else towers)
    if classes is not None:
        config.num_labels = classes
    return config


def _maker(config: Any, classes: int | None) -> Any:
    """The class of transformers' that makes the network: with scores if it was saved so, or classes are given."""
    saved_as = (config.architectures or [""])[0]
    found = next((auto for end, auto in HEADS.items() if saved_as.endswith(end)), None)
    if found is None:
        found = "AutoModel" if classes is None else HEADS["ForImageClassification"]
    return getattr(_transformers(), found)


def _made(make: Any, name: str, config: Any, pretrained: bool) -> tuple[Any, Sequence[str]]:
    """The network, and which of its tensors are drawn although it has weights."""
    if not pretrained:
        return make.from_config(config, dtype=torch.float32), ()
    options: dict[str, Any] = {"use_safetensors": True, "ignore_mismatched_sizes": True, "dtype": torch.float32}
    model, info = make.from_pretrained(name, config=config, output_loading_info=True, **options)
    other = {m[0] if isinstance(m, tuple | list) else m for m in info["mismatched_keys"]}
    return model, sorted({*info["missing_keys"], *other})


def _input_size(config: Any, preprocessing: Preprocessing) -> tuple[int, int, int]:
    side = getattr(config, "image_size", None) or 224
    own = tuple(side) if isinstance(side, tuple | list) else (side, side)
    height, width = preprocessing.size or own
    return (int(getattr(config, "num_channels", 3)), int(height), int(width))


def _output_of(model: Any, size: tuple[int, int, int]) -> str:
    """Which output is taken, seen by running the network once, which also puts transformers' own hooks in place.

    A pooler with a layer of its own is passed by: many files lack its weights (DINO's), which would be random then.
    """
    try:
        with evaluating(model):
            given = model(torch.zeros(1, *size))
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{type(model).__name__} does not run on a picture of shape {size}, the size that its image processor "
            f"gives: {' '.join(str(error).split())[:200]}"
        ) from error
    if isinstance(given.get(LOGITS), Tensor):
        return LOGITS
    if getattr(getattr(model, "pooler", None), "dense", None) is not None:
        return FIRST
    return POOLED if isinstance(given.get(POOLED), Tensor) else DENSE


def _class_names(config: Any, output: str) -> tuple[str, ...]:
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label)) if output == LOGITS else ()
    return () if all(n == f"LABEL_{i}" for i, n in enumerate(names)) else names


def _partial(name: str, drawn: Sequence[str], module: OneOutput) -> str:
    """Which weights are random although the network has some; those of a pooler that is passed by do not matter."""
    used = [n for n in drawn if not (module.output == FIRST and n.startswith("pooler."))]
    count = len(module.state_dict())
    if not used:
        return ""
    if len(drawn) >= count:
        raise InputError(f"model='{FAMILY}{name}': its file holds none of the network's {count} tensors.")
    shown = ", ".join(map(repr, used[:3])) + (f" and {len(used) - 3} more" if len(used) > 3 else "")
    return f"the weights of {FAMILY}{name} hold {count - len(drawn)} of its {count} tensors, without {shown}."


@contextmanager
def _found(name: str) -> Iterator[None]:
    """Turn what goes wrong while a network is fetched or read into an error that the user can fix."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(
            f"model='{FAMILY}{name}' cannot be loaded ({type(error).__name__}: {reason}). {_fix(name)}"
        ) from error


def _fix(name: str) -> str:
    if Path(name).expanduser().is_dir():
        return f"The folder must hold {LAYOUT}; code of its own is not run."
    return (
        "Check the id at https://huggingface.co/models. Without a connection type, where there is one, `hf download "
        f"{name} --local-dir FOLDER`, and give that folder: --model FOLDER. Before a private network type `hf auth "
        "login`. Weights are read as safetensors only, and no code of a repository is run."
    )


@contextmanager
def _silent() -> Iterator[None]:
    """No bars and no warnings of transformers' about weights, which `Network.partial` says."""
    logging: Any = _transformers().utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
