"""whatwhere: how much *where* is in your *what*?"""

from whatwhere.cost import Cost, cost
from whatwhere.data import Data, load_data
from whatwhere.dependency import SharedPrefix, collapse, pool, shuffle
from whatwhere.errors import InputError, TrainingDiverged
from whatwhere.models import load_model
from whatwhere.network import Network, Preprocessing
from whatwhere.sites import Site, Sites
from whatwhere.sites import list_sites as sites
from whatwhere.studies.dependency.curve import dependency
from whatwhere.studies.dependency.result import DependencyResult
from whatwhere.studies.dependency.study import dependency_study
from whatwhere.training import RECIPES, Recipe, evaluate, fit

__all__ = [
    "RECIPES",
    "Cost",
    "Data",
    "DependencyResult",
    "InputError",
    "Network",
    "Preprocessing",
    "Recipe",
    "SharedPrefix",
    "Site",
    "Sites",
    "TrainingDiverged",
    "collapse",
    "cost",
    "dependency",
    "dependency_study",
    "evaluate",
    "fit",
    "load_data",
    "load_model",
    "pool",
    "shuffle",
    "sites",
]
