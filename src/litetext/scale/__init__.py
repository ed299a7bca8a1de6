"""Work on a Ray cluster: callable classes for ``Dataset.map_batches``, and the jobs of the command line made of them.

Each class is a thin shell over the functions that one machine uses, so that the answer is the same. Give them to
``map_batches`` with ``batch_format="pyarrow"``; other columns are kept. The model is loaded once for each actor.
"""

from importlib.util import find_spec

from litetext.errors import MissingExtraError

if find_spec("pyarrow") is None or find_spec("ray") is None:
    raise MissingExtraError("work on a cluster", "ray")

from litetext.scale.workers import CountPrompts, EmbedPhrases, ScorePairs, SegmentImages, TrackVideos

__all__ = ["CountPrompts", "EmbedPhrases", "ScorePairs", "SegmentImages", "TrackVideos"]
