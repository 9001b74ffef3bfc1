from .insert import BottleneckReport as BottleneckReport
from .insert import bottleneck as bottleneck
from .layer import Bottleneck as Bottleneck
from .layer import layer_of as layer_of
from .layer import overwriting as overwriting
from .studies.compare import Compare as Compare
from .studies.compare_result import SayResult as SayResult
from .studies.demo import Demo as Demo
from .studies.explain import explain as explain
from .studies.intervene import intervene as intervene

COMMANDS: dict[str, str]
