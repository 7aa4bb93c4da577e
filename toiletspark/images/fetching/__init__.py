"""Where images come from: an image's URL in, its bytes or a status out. Knows nothing of decoding, Spark or tables.

`Fetcher` is what others use. `lanes` shares its threads out among hosts; `places` judges where an image may come from,
`addresses` what may be dialled; `stores` reads one image once, by `web` over http, with `shards` (`tar_shard`,
`row_shard`) for packed ones; `failures` tells what it means when that did not work. `ranges` and `kept` serve them:
parts of files, and things that are dear to open.
"""

from toiletspark.images.fetching.fetcher import Fetched, Fetcher
from toiletspark.images.fetching.shards import shard_of

__all__ = ["Fetched", "Fetcher", "shard_of"]
