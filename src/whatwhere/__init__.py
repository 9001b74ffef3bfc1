"""whatwhere: how much *where* is in your *what*?"""

from whatwhere.bottleneck import bottleneck
from whatwhere.cost import Cost, cost
from whatwhere.data import Data, load_data
from whatwhere.data.load_scenes import load_scenes
from whatwhere.data.scenes import Scenes
from whatwhere.dependency import SharedPrefix, collapse, pool, shuffle
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.models import load_model
from whatwhere.network import Network, Preprocessing
from whatwhere.position import even_sizes, padding_pattern, uneven_padding, with_padding
from whatwhere.recalibration import MSSAR, SE, recalibrate
from whatwhere.sites import Site, Sites
from whatwhere.sites import list_sites as sites
from whatwhere.studies.bottleneck.result import BottleneckResult
from whatwhere.studies.bottleneck.study import bottleneck_study
from whatwhere.studies.dependency.curve import dependency
from whatwhere.studies.dependency.result import DependencyResult
from whatwhere.studies.dependency.study import dependency_study
from whatwhere.studies.position.location import location_test
from whatwhere.studies.position.readout import position
from whatwhere.studies.position.red_green import red_green
from whatwhere.studies.position.result import PositionResult
from whatwhere.studies.recalibration.costs import recalibration_cost
from whatwhere.studies.recalibration.gates import gates, plot_gates
from whatwhere.studies.recalibration.joint import joint_study
from whatwhere.studies.recalibration.study import RecalibrationResult, recalibration_study
from whatwhere.surgery import untrained
from whatwhere.training import RECIPES, Recipe, SceneRecipe, evaluate, evaluate_scenes, fit

__all__ = [
    "MSSAR",
    "RECIPES",
    "SE",
    "BottleneckResult",
    "Cost",
    "Data",
    "DependencyResult",
    "InputError",
    "Network",
    "PositionResult",
    "Preprocessing",
    "RecalibrationResult",
    "Recipe",
    "SceneRecipe",
    "Scenes",
    "SharedPrefix",
    "Site",
    "Sites",
    "TrainingDiverged",
    "bottleneck",
    "bottleneck_study",
    "collapse",
    "cost",
    "dependency",
    "dependency_study",
    "evaluate",
    "evaluate_scenes",
    "even_sizes",
    "fit",
    "gates",
    "joint_study",
    "load_data",
    "load_model",
    "load_scenes",
    "location_test",
    "padding_pattern",
    "plot_gates",
    "pool",
    "position",
    "recalibrate",
    "recalibration_cost",
    "recalibration_study",
    "red_green",
    "shuffle",
    "sites",
    "uneven_padding",
    "untrained",
    "with_padding",
]
