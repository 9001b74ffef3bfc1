"""The paper's own curve, where there is one."""

from __future__ import annotations

import csv
from importlib import resources
from typing import Literal

from whatwhere.report.figures import Line

REFERENCE_MODEL = "cifar/vgg16"


def reference_curve(column: Literal["augmented", "plain"] = "augmented") -> Line:
    """VGG-16 on CIFAR-100 with GAP+FC: single runs, read off the authors' figures (accuracy in per cent)."""
    text = (resources.files(__package__) / "reference.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    return Line(
        label="Fan et al. 2020, GAP+FC" + (" (no augmentation)" if column == "plain" else ""),
        x=tuple(float(r["share"]) for r in rows),
        y=tuple(float(r[column]) for r in rows),
    )
