from . import hold as hold
from . import need as need
from . import say as say
from . import use as use
from .audits.study import Audit as Audit
from .audits.study import audit as audit
from .costs import cost as cost
from .data.load import load_data as load_data
from .errors import InputError as InputError
from .errors import TrainingDiverged as TrainingDiverged
from .graph.modular import modular as modular
from .lab.study import Run as Run
from .models.detectors import detector as detector
from .models.exported import export as export
from .models.load import load_model as load_model
from .models.saved import save as save
from .network import Network as Network
from .network import Preprocessing as Preprocessing
from .receptive import receptive_fields as receptive_fields
from .site_table import sites as sites
from .redraw import untrained as untrained
from .training.evaluate import evaluate as evaluate
from .training.fit import fit as fit
from .training.recipes import Recipe as Recipe
from .training.recipes import recipes as recipes
from .wings import load_result as load_result

__version__: str
