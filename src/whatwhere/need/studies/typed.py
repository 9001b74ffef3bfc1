"""What to type: the commands that make the networks a study measured."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from whatwhere.depth import within_share
from whatwhere.lab.sources import GivenNetwork
from whatwhere.need.studies.removals import call_of
from whatwhere.need.studies.trained_cells import TrainedCells
from whatwhere.site import Site

OUT = "small"


def collapse_command(source: GivenNetwork, site: str) -> str:
    """The command that makes the network collapsed before a site; of a module in Python the call.

    Args:
        source: where the network is.
        site: where it is collapsed.
    """
    if not isinstance(source.source, str):
        return f"small = ww.need.collapse(net, {site!r})"
    out = f"{OUT}er" if Path(source.source) == Path(OUT) else OUT  # not the folder of the model itself
    words = ["whatwhere", "need", "collapse", "--model", source.source, "--site", site, "--out", out]
    return shlex.join([*words, *_options(source)])


def recover_command(source: GivenNetwork, data: str, site: str) -> str:
    """The command that fine-tunes the network collapsed before a site, of a network by name."""
    words = ["whatwhere", "need", "recover", "--model", str(source.source), "--data", data, "--sites", site]
    return shlex.join([*words, *_options(source)])


def _options(source: GivenNetwork) -> list[str]:
    """What was said of a network by name, but for the name."""
    options, words = json.loads(source.options), list[str]()
    for name in ("weights", "classes"):
        words += [f"--{name}", str(options[name])] if options.get(name) else []
    words += ["--width", f"{options['width']:g}"] if options.get("width", 1.0) != 1.0 else []
    return [*words, *(["--pretrained", "true"] if options.get("pretrained") else [])]


def trained_network(cells: TrainedCells, method: str, site: str, key: str) -> str:
    """The lines of Python that load a network which was trained after surgery at a site."""
    options = "".join(f", {name}={value!r}" for name, value in cells.options.items())
    file = (Path("weights") / f"{key}.safetensors").as_posix()
    return (
        "import safetensors.torch, whatwhere as ww\n"
        f"net = {call_of(method, f'ww.load_model({cells.model!r}{options})', site)}\n"
        f"net.module.load_state_dict(safetensors.torch.load_file({file!r}))  # in the folder of the weights"
    )


def trained_command(model: str, data: str, width: float, share: str) -> str:
    """The command that trains a network anew without spatial information in a share of its convolutions."""
    words = ["whatwhere", "need", "trained", "--model", model, "--data", data, "--shares", share]
    return shlex.join([*words, *(["--width", f"{width:g}"] if width != 1.0 else [])])


def share_text(cuts: Sequence[Site], cut: Site) -> str:
    """The shortest share that names a cut: "0.31"."""
    texts = [f"{cut.depth_share:.{digits}f}" for digits in range(2, 17)]
    return next((t for t in texts if 0 < float(t) <= 1 and within_share(cuts, float(t)) is cut), repr(cut.depth_share))
