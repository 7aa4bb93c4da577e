"""Small pictures for people, made on the cluster from the user's images: for labelling and for the run page."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql.pandas.functions import pandas_udf

from toiletspark.config import Decode, Fetch
from toiletspark.digests import content_digest
from toiletspark.images import thumbnail
from toiletspark.sources import Fetcher


def thumbnails(images: DataFrame, fetch: Fetch, limits: Decode, max_side_px: int, quality: int = 85) -> DataFrame:
    """Fetches images and reduces them.

    Args:
        images: image_id, image_url, content (binary, wins over the URL if not null).
        fetch: what one fetch may cost.
        limits: what is decoded.
        max_side_px: of the small picture.
        quality: of its JPEG, 1 to 95.

    Returns:
        image_id, content_digest (of the original, null if it could not be had), jpeg (null if it is no sound
        image); one row per image.
    """

    @pandas_udf("content_digest string, jpeg binary")  # type: ignore[call-overload, untyped-decorator]
    def reduce(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        fetcher = Fetcher(fetch)
        for urls, contents in batches:
            fetched = fetcher.fetch_all(urls.tolist(), contents.tolist())
            rows = [
                (content_digest(one.content), thumbnail(one.content, limits, max_side_px, quality))
                if one.content is not None
                else (None, None)
                for one in fetched
            ]
            yield pd.DataFrame(rows, columns=["content_digest", "jpeg"])

    once = reduce.asNondeterministic()  # see embedding.attempt_images
    return images.select("image_id", once("image_url", "content").alias("small")).select("image_id", "small.*")
