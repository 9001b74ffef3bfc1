"""How much *where* does a network need? Destroy spatial information at chosen depths (Fan et al. 2020)."""

from whatwhere.dependency.branch import SharedPrefix
from whatwhere.dependency.collapse import CollapseReport, collapse
from whatwhere.dependency.shuffle import MODES, pool, shuffle

__all__ = ["MODES", "CollapseReport", "SharedPrefix", "collapse", "pool", "shuffle"]
