from .load import Data as Data
from .load import load_data as load_data
from .numbers import numbered as numbered
from .split import Split as Split
