"""Where images come from: an image's URL in, its bytes or a status out. Knows nothing of decoding, Spark or tables.

`Fetcher` is what others use. `lanes` shares its threads out among hosts, `stores` and `shards` read, and `failures`
tells what it means when they cannot.
"""

from toiletspark.sources.fetcher import Fetched, Fetcher
from toiletspark.sources.shards import shard_of

__all__ = ["Fetched", "Fetcher", "shard_of"]
