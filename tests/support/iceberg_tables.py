"""Writes Iceberg tables and reads them as a run does; prints as JSON which rows it has read.

    python -m tests.support.iceberg_tables JAR[,JAR...] FOLDER

A program of its own, because the jars must be there when Java starts.
"""

import json
import sys
from typing import Any

from pyspark.sql import SparkSession

from tests.conftest import literal_config
from toiletspark.config import Config
from toiletspark.errors import TableError
from toiletspark.tables import table_reader


def session(jars: str, folder: str) -> SparkSession:
    """A session with a catalog `lake`, and with Iceberg beside the session's own tables."""
    catalog, own = "spark.sql.catalog.lake", "spark.sql.catalog.spark_catalog"
    settings = {
        "spark.jars": jars,
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": f"{folder}/own",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "hadoop",
        f"{catalog}.warehouse": f"{folder}/lake",
        own: "org.apache.iceberg.spark.SparkSessionCatalog",
        f"{own}.type": "hadoop",
        f"{own}.warehouse": f"{folder}/own",
    }
    builder = SparkSession.builder.master("local[1]")
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def ids(spark: SparkSession, config: Config) -> str:
    """The image_ids that are read, in order, as one word."""
    frame = table_reader.read_table(spark, config.images, "images")
    return "".join(sorted(row["image_id"] for row in frame.collect()))


def read_while_rows_arrive(spark: SparkSession, sets: dict[str, Any], insert: str) -> list[str]:
    """The rows of a run before and after somebody has written; and of the next run."""
    config = literal_config(sets)
    run = table_reader.pin_versions(spark, config)
    before = ids(spark, run)
    spark.sql(insert)
    return [before, ids(spark, run), ids(spark, table_reader.pin_versions(spark, config))]


def main(jars: str, folder: str) -> None:
    spark = session(jars, folder)
    spark.sparkContext.setLogLevel("OFF")
    table, own = "lake.portal.photos", "default.photos"
    results: dict[str, Any] = {}
    for name in (table, own):
        spark.sql(f"CREATE TABLE {name} (image_id string, Provider string) USING iceberg")
        empty = table_reader.pin_versions(spark, literal_config({"images.table": name}))
        results[f"version of the empty {name}"] = empty.images.version
        spark.sql(f"INSERT INTO {name} VALUES ('a', 'x'), ('b', 'x')")
        insert = f"INSERT INTO {name} VALUES ('c', 'x')"
        results[name] = read_while_rows_arrive(spark, {"images.table": name}, insert)
    path = f"{folder}/lake/portal/photos"
    of_path = {"images.path": path, "images.format": "iceberg", "images.where": "image_id > 'a'"}
    insert = f"INSERT INTO {table} VALUES ('d', 'x')"
    results["path"] = read_while_rows_arrive(spark, of_path, insert)
    try:
        table_reader.pin_versions(spark, literal_config({"images.path": f"{path}/data"}))
    except TableError as error:
        results["as Parquet"] = error.found
    print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
