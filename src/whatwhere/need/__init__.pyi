from .branch import SharedPrefix as SharedPrefix
from .gap_fc import CollapseReport as CollapseReport
from .gap_fc import collapse as collapse
from .shuffling import MODES as MODES
from .shuffling import pool as pool
from .shuffling import shuffle as shuffle
from .studies.curve import Curve as Curve
from .studies.curve import curve as curve
from .studies.demo import Demo as Demo
from .studies.recover import Recover as Recover
from .studies.recover_result import RecoverResult as RecoverResult
from .studies.result import NeedResult as NeedResult
from .studies.trained import Trained as Trained

COMMANDS: dict[str, str]
