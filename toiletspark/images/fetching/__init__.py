"""Fetches images: a URL in, bytes or a status out. Knows nothing of decoding, Spark or tables.

`fetcher` fetches many at once, within `host_limits`; `stores` reads each image once, over http by
`http_session`, from packed files by `shards`. `allow_rules` checks URLs, `ip_addresses` what may be
dialled, `failures` gives each error a status.
"""

from toiletspark.images.fetching.fetcher import Fetched, Fetcher
from toiletspark.images.fetching.shards import shard_of

__all__ = ["Fetched", "Fetcher", "shard_of"]
