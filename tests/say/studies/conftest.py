"""What the trained network of `said` holds."""

from collections.abc import Callable
from typing import Any

import pytest

from whatwhere.lab.study import Run
from whatwhere.say.studies.compare_plan import ComparePlan
from whatwhere.say.studies.features import SiteFeatures
from whatwhere.say.studies.speaker import Speaker


@pytest.fixture(scope="session")
def features_of(said: Any) -> Callable[..., SiteFeatures]:
    """Features at the site of the comparison, of a split, as a kind of bottleneck sees them."""
    plan = ComparePlan(said.study)
    return lambda split, kind="intact": plan.bench(Run(said.out)).features(plan.cell("middle", kind, 0).config, split)


@pytest.fixture(scope="session")
def speaker(said: Any) -> Speaker:
    """The supervised bottleneck of `said`."""
    return Speaker(said.study, said.out)
