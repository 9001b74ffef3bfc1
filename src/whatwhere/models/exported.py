"""Networks as files for other programs: ONNX, or a program that PyTorch exports; each is run and compared first.

Source: `torch.onnx.export(dynamo=True)` and `torch.export`. The number of pictures in a batch stays free.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from whatwhere.errors import InputError, unknown
from whatwhere.files import refuse_foreign, write_bytes
from whatwhere.models.opened import versions
from whatwhere.network import Network, as_module, check_finite, main_map, running
from whatwhere.site import evaluating, expected_input_size
from whatwhere.surgery import copied, surgeries

Format = Literal["onnx", "torch-export"]
SUFFIX = {"onnx": ".onnx", "torch-export": ".pt2"}
ABOUT = "whatwhere"  # where a file says what it holds; so its own files are known
TOLERANCE = 1e-4
BATCHES = (1, 3)  # pictures that are tried
FREE = ({0: torch.export.Dim("batch")},)  # of the input's axes
INSTALL = "pip install 'whatwhere[export]'"
Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        file: where.
        name: of the network.
        input_size: (C, H, W) of a picture; the batch is free.
        pictures: what must be done to them before.
        checked: what ran the file; "" where it is not installed.
        difference: the largest of a score from the network's, as a share of the largest score; NaN where nothing ran
            the file.
    """

    file: Path
    name: str
    input_size: tuple[int, int, int]
    pictures: str
    checked: str
    difference: float

    def __str__(self) -> str:
        """What was written, how it was checked, and what it takes."""
        size = ", ".join(map(str, self.input_size))
        tried = " and ".join(map(str, BATCHES))
        check = (
            f"checked with {self.checked} on {tried} random pictures: scores differ by {self.difference:.1g} at most."
            if self.checked
            else f"not checked, since onnxruntime is not installed: {INSTALL}."
        )
        takes = f"it takes float32 pictures (batch, {size}), prepared so: {self.pictures}"
        return f"{self.name}: wrote {self.file}, {check}\n{takes}"


def export(
    net: nn.Module | Network,
    out: str | os.PathLike[str],
    *,
    format: Format = "onnx",
    input_size: tuple[int, int, int] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a network as a file that runs without this package, and compare what it gives.

    >>> print(ww.export(ww.load_model("small"), "small.onnx"))
    >>> ww.export(net, "net.pt2", format="torch-export")        # torch.export.load("net.pt2").module()

    The file has one input, `pictures` (batch, C, H, W) of float32, and one output, `scores`; any number of pictures may
    be in a batch. Pictures are prepared as the network's preprocessing says, which the file records.

    Args:
        net: the network; it is left alone. Of a segmentation network with several outputs the main map is taken.
        out: a file's name, `.onnx` or `.pt2`.
        format: `onnx` (needs onnx and onnxscript, and onnxruntime for the check), or `torch-export`.
        input_size: (C, H, W) of one picture; None takes the network's own.
        overwrite: replace the file also if it was not exported here.

    Raises:
        InputError: for a name that does not go with the format, a package that is missing, a network that cannot be
            exported, or a file whose scores differ by more than 1e-4 of the largest one on random pictures, which is
            not written.
    """
    file = Path(out)
    check_names(file, format)
    refuse_foreign(file, [file], ours=_is_ours(file), overwrite=overwrite)
    check_finite(as_module(net))
    given = net if isinstance(net, Network) else Network(net)
    given = replace(given, input_size=input_size or expected_input_size(given))  # checked
    size = expected_input_size(given)
    module = _Scores(copied(given.module).cpu().float().to(memory_format=torch.contiguous_format)).eval()
    about = json.dumps(_about(given, size))
    make, under = (_as_onnx, _under_onnxruntime) if format == "onnx" else (_as_program, _under_torch)
    content = make(module, size, about)
    checked, run = under(content)
    difference = _difference(module, run, size) if run else math.nan
    if checked and not difference <= TOLERANCE:
        raise InputError(
            f"out={str(file)!r} is not written: with {checked} its scores differ by {difference:.2g} from the "
            f"network's on random pictures, and {TOLERANCE:g} is allowed. Try the other format, unless the network is "
            "random in evaluation mode."
        )
    write_bytes(file, content)
    return Exported(file, given.name, size, str(given.preprocessing), checked, difference)


class _Scores(nn.Module):
    """A network that gives one tensor."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, pictures: Tensor) -> Tensor:
        """(N, C, H, W) to scores."""
        output = self.module(pictures)
        return output if isinstance(output, Tensor) else main_map(output)


def check_names(out: str | os.PathLike[str], format: str) -> None:
    """Refuse a format that is not known, and a file's name that does not go with it.

    Raises:
        InputError: saying what to give.
    """
    file = Path(out)
    if format not in SUFFIX:
        raise unknown("format", format, get_args(Format))
    if file.suffix != SUFFIX[format]:
        raise InputError(
            f"out={str(file)!r} is not the name of a {SUFFIX[format]} file, as format={format!r} has; give "
            f"{str(file.with_suffix(SUFFIX[format]))!r}."
        )


def _about(net: Network, size: tuple[int, ...]) -> dict[str, Any]:
    """What a file says of itself."""
    return {
        "name": net.name,
        "preprocessing": net.preprocessing.to_dict(),
        "input_size": size,
        "classes": net.classes,
        "surgery": surgeries(net),
        "versions": versions(),
    }


def _as_program(module: nn.Module, size: tuple[int, ...], about: str) -> bytes:
    """The bytes of a .pt2 file."""
    content = io.BytesIO()
    with _exporting(module):
        torch.export.save(_traced(module, size), content, extra_files={f"{ABOUT}.json": about})
    return content.getvalue()


def _as_onnx(module: nn.Module, size: tuple[int, ...], about: str) -> bytes:
    """The bytes of an .onnx file."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"format='onnx' needs {error.name}: {INSTALL}; or give format='torch-export'.") from error
    names: dict[str, Any] = {"input_names": ["pictures"], "output_names": ["scores"]}
    with _exporting(module):
        made: Any = torch.onnx.export(_traced(module, size), dynamo=True, verbose=False, dynamic_shapes=FREE, **names)
        proto = made.model_proto
        entry = proto.metadata_props.add()
        entry.key, entry.value = ABOUT, about
        content: bytes = proto.SerializeToString()
    return content


def _traced(module: nn.Module, size: tuple[int, ...]) -> torch.export.ExportedProgram:
    with evaluating(module), running(module, size):
        module(torch.zeros(1, *size))  # what does not run says so in its own words
    # A batch of 2: of 1, PyTorch takes it that there is always one.
    return torch.export.export(module, (torch.zeros(2, *size),), dynamic_shapes=FREE)


@contextmanager
def _exporting(module: nn.Module) -> Iterator[None]:
    """Turn what PyTorch raises for a network that it cannot export into an error that names the network's class."""
    try:
        with torch.no_grad():
            yield
    except InputError:
        raise
    except Exception as error:  # exporting runs foreign code, and raises anything
        why = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        raise InputError(
            f"net: PyTorch cannot export this {type(module.module).__name__} ({why}). Try the other format, or another "
            "input_size."
        ) from error


# ---- the check


def _under_torch(content: bytes) -> tuple[str, Run]:
    """What runs a program, and its name."""
    module = torch.export.load(io.BytesIO(content)).module()
    return f"PyTorch {torch.__version__.partition('+')[0]}", module


def _under_onnxruntime(content: bytes) -> tuple[str, Run | None]:
    try:
        import onnxruntime
    except ImportError:
        return "", None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(pictures: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"pictures": pictures.numpy()})[0])

    return f"onnxruntime {onnxruntime.__version__}", run


def _difference(module: nn.Module, run: Run, size: tuple[int, ...]) -> float:
    """The largest difference of a score on random pictures, as a share of the largest score."""
    draws = torch.Generator().manual_seed(0)
    with evaluating(module):
        return max(_gap(module, run, torch.randn(count, *size, generator=draws)) for count in BATCHES)


def _gap(module: nn.Module, run: Run, pictures: Tensor) -> float:
    expected, found = module(pictures), run(pictures)
    if expected.shape != found.shape:
        return math.inf
    gap = float((expected - found).abs().max()) / (float(expected.abs().max()) or 1.0)
    return math.inf if math.isnan(gap) else gap


def _is_ours(file: Path) -> bool:
    """Whether a file was exported here, as far as it can be read."""
    try:
        if file.suffix == ".pt2":
            return any(name.endswith(f"{ABOUT}.json") for name in zipfile.ZipFile(file).namelist())
        import onnx

        return any(entry.key == ABOUT for entry in onnx.load(file, load_external_data=False).metadata_props)
    except Exception:  # no file, or one that is something else
        return False
