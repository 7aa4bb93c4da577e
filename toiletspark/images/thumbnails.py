"""Small pictures for people, made on the cluster from the user's images."""

from collections.abc import Iterator, Mapping

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf

from toiletspark import package_floors
from toiletspark.config import Config, Decode, Fetch
from toiletspark.hashing import content_digest
from toiletspark.images.fetching import Fetcher
from toiletspark.images.sandbox import thumbnail
from toiletspark.tables import spark_io, user_tables

_PAGE_PX = 224


def of_few(
    spark: SparkSession, config: Config, wanted: Mapping[str, str | None]
) -> dict[str, bytes]:
    """Makes thumbnails of the few images that a page shows.

    `wanted` maps an image_id to the digest of the content that the page shows; None: the present
    one. Returns JPEGs of at most 224 px, without images that are missing or have changed since.
    """
    if not wanted:
        return {}
    rows = [(image_id,) for image_id in sorted(wanted)]
    ids = F.broadcast(spark_io.of_rows(spark, rows, {"image_id": "string"}))
    images = user_tables.read_catalog(spark, config).join(ids, on="image_id", how="left_semi")
    with spark_io.arrow_batches(spark, config.embed.images_per_batch):
        images = images.repartition(spark.sparkContext.defaultParallelism)
        made = thumbnails(images, config.fetch, config.decode, _PAGE_PX).collect()
    jpegs = {}
    for row in made:
        is_wanted = wanted[row["image_id"]] in (None, row["content_digest"])
        if row["jpeg"] is not None and is_wanted:
            jpegs[row["image_id"]] = bytes(row["jpeg"])
    return jpegs


def thumbnails(
    images: DataFrame, fetch: Fetch, limits: Decode, max_side_px: int, quality: int = 85
) -> DataFrame:
    """Fetches images (image_id, image_url, content: binary, wins over the URL) and reduces them.

    Returns one row per image: image_id, content_digest (of the original, null if it could not be
    fetched), jpeg (null if it is no sound image). The JPEG quality is 1 to 95.
    """
    schema = "content_digest string, jpeg binary"

    @pandas_udf(schema)  # type: ignore[call-overload, untyped-decorator]
    def reduce(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        package_floors.require(doing="checking the packages of a worker, before its first picture")
        fetcher = Fetcher(fetch)
        for urls, contents in batches:
            rows: list[tuple[str | None, bytes | None]] = []
            for image in fetcher.fetch_all(urls.tolist(), contents.tolist()):
                if image.content is None:
                    rows.append((None, None))
                else:
                    jpeg = thumbnail(image.content, limits, max_side_px, quality)
                    rows.append((content_digest(image.content), jpeg))
            yield pd.DataFrame(rows, columns=["content_digest", "jpeg"])

    once = reduce.asNondeterministic()  # see embedding.tasks: else Spark may run it twice
    small = images.select("image_id", once("image_url", "content").alias("small"))
    return small.select("image_id", "small.*")
