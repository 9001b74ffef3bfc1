from .insert import RecalibrationReport as RecalibrationReport
from .insert import recalibrate as recalibrate
from .ms_sar import MSSAR as MSSAR
from .ms_sar import SE as SE
from .studies.compare import Compare as Compare
from .studies.compare_result import CompareResult as CompareResult
from .studies.cost import Cost as Cost
from .studies.cost_result import CostResult as CostResult
from .studies.gates import gates as gates
from .studies.gates import plot_gates as plot_gates
from .studies.joint import Joint as Joint
from .studies.joint_result import JointResult as JointResult

COMMANDS: dict[str, str]
