from .averaging import pool as pool
from .branch import SharedPrefix as SharedPrefix
from .embedding_removal import embedding as embedding
from .embedding_search import embeddings_of as embeddings_of
from .gap_fc import CollapseReport as CollapseReport
from .gap_fc import collapse as collapse
from .one_by_one import PointwiseReport as PointwiseReport
from .one_by_one import pointwise as pointwise
from .patch_shuffling import shuffle_patches as shuffle_patches
from .position_embeddings import Embedding as Embedding
from .prefix_tokens import prefix as prefix
from .shuffling import MODES as MODES
from .shuffling import shuffle as shuffle
from .studies.curve import Curve as Curve
from .studies.curve import curve as curve
from .studies.demo import Demo as Demo
from .studies.patches import Patches as Patches
from .studies.patches import patches as patches
from .studies.patches_result import PatchesResult as PatchesResult
from .studies.recover import Recover as Recover
from .studies.recover_result import RecoverResult as RecoverResult
from .studies.result import NeedResult as NeedResult
from .studies.trained import Trained as Trained
from .truncated import TruncateReport as TruncateReport
from .truncated import truncate as truncate

COMMANDS: dict[str, str]
