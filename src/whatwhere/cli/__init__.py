"""The command `whatwhere`: typed functions, no logic of their own; a file for each instrument."""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from typing import Any

from jsonargparse import DefaultHelpFormatter, auto_cli

from whatwhere.cli import bottleneck
from whatwhere.cli.dependency import dependency
from whatwhere.cli.networks import collapse, report, sites, train
from whatwhere.cli.position import position
from whatwhere.cli.recalibration import recalibration
from whatwhere.errors import InputError, TrainingDiverged

DESCRIPTION = """How much "where" is in your "what"?

  whatwhere dependency                          the demo: networks whose answer is known, in 3 minutes
  whatwhere sites --model timm/resnet18         every place where a spatial map flows
  whatwhere dependency --model M --data D       what a trained network loses without spatial information
  whatwhere position --model M --data D         how much position its features hold, beside controls
  whatwhere recalibration --model M --data D --out O   train with and without recalibration, and compare
  whatwhere bottleneck train --data D --out O   a segmentation network; then evaluate, explain, intervene
  whatwhere collapse --model M --site S --out F the smaller network (GAP+FC)
"""


SAY = "Make a segmentation network speak in semantic concepts: train it, evaluate bottlenecks, explain, intervene."


def main(arguments: list[str] | None = None) -> None:
    """Run a command; a mistake is told in one line, an interruption says how to go on."""
    say = (bottleneck.demo, bottleneck.train, bottleneck.evaluate, bottleneck.explain, bottleneck.intervene)
    commands: Any = {f.__name__: f for f in (sites, train, dependency, collapse, position, recalibration, report)}
    commands["bottleneck"] = {"_help": SAY, **{f.__name__: f for f in say}}
    try:
        auto_cli(
            commands, args=arguments, as_positional=False, prog="whatwhere", description=DESCRIPTION,
            formatter_class=Help,
        )  # fmt: skip
    except (InputError, TrainingDiverged) as error:
        print(f"whatwhere: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nwhatwhere: stopped. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)


class Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help that keeps the line breaks of descriptions."""
