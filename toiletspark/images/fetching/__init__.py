"""Fetches images: a URL in, bytes or a status out. Knows nothing of decoding, Spark or tables.

`fetcher` fetches many at once; `stores` reads each image once, by `http_session` or from `shards`.
"""

from toiletspark.images.fetching.fetcher import Fetched, Fetcher
from toiletspark.images.fetching.host_limits import host_of
from toiletspark.images.fetching.shards import shard_of

__all__ = ["Fetched", "Fetcher", "host_of", "shard_of"]
