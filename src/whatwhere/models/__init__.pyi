from .exported import Exported as Exported
from .exported import export as export
from .load import load_model as load_model
from .saved import save as save
