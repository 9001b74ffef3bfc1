from .load import load_model as load_model
from .saved import save as save
