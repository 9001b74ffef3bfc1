"""Pictures by name: Hugging Face datasets, folders, one's own Datasets, the built-in known-answer tasks."""

from whatwhere.data.known_answer import known_answer
from whatwhere.data.load import Data, load_data
from whatwhere.data.split import Split
from whatwhere.data.surroundings import surroundings

__all__ = ["Data", "Split", "known_answer", "load_data", "surroundings"]
