"""Reads Parquet files with columns of types that Spark does not know, which would close them all.

Spark converts the types of all columns before it chooses some. Here each column is converted by
itself: nanoseconds become microseconds, a UUID becomes text, and other unknown types are left out.
"""

import json
import logging
import re
from typing import Any

from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.types import BinaryType, LongType, StructField, StructType

from toiletspark.tables.schemas import quoted

UNKNOWN_TYPE = re.compile(
    r"Illegal Parquet type|PARQUET_TYPE_ILLEGAL|PARQUET_TYPE_NOT|Parquet type not"
    r"|[Pp]recision \d+ exceeds"
)
_MICROS = "((`{0}` - pmod(`{0}`, 1000)) div 1000)"
_KNOWN_HERE = {  # a part of the type's name, the type by which Spark reads it, and its meaning
    "TIMESTAMP(NANOS,true)": (LongType(), f"timestamp_micros({_MICROS})"),
    "TIMESTAMP(NANOS,false)": (
        LongType(),  # by an interval, because a cast would go through the session's time zone
        "timestamp_ntz'1970-01-01 00:00:00' + make_dt_interval(0, 0, 0, "
        f"cast({_MICROS} as decimal(18,0)) / 1000000)",
    ),
    "(UUID)": (
        BinaryType(),
        "lower(regexp_replace(hex(`{0}`), '^(.{{8}})(.{{4}})(.{{4}})(.{{4}})', '$1-$2-$3-$4-'))",
    ),
}

_log = logging.getLogger("toiletspark")


def load(spark: SparkSession, path: str, options: dict[str, str], name: str) -> DataFrame:
    """The columns of Parquet files that can be read; the log names the others.

    The first file has the types. Cost: one footer, read on the driver by Hadoop.

    Args:
        path: as Spark needs it.
        name: of the table, for the log.
    """
    columns: dict[str, Column] = {}
    fields: list[StructField] = []
    for group in _columns_of_first_file(spark, path, options):
        field, column = _readable(spark, group)
        if field is None:
            text = str(group.toString())
            _log.warning("%s: a column is left out, Spark does not know its type: %s", name, text)
            continue
        fields.append(field)
        columns[field.name] = column
    frame = spark.read.format("parquet").options(**options).schema(StructType(fields)).load(path)
    partitions = [F.col(quoted(other)) for other in frame.columns if other not in columns]
    return frame.select(*columns.values(), *partitions)


def _columns_of_first_file(
    spark: SparkSession, path: str, options: dict[str, str]
) -> list[JavaObject]:
    """The columns of the first file by name, as Parquet's own Java types."""
    files = spark.read.format("binaryFile").options(**options).load(path).inputFiles()
    java: Any = spark._jvm
    file = java.org.apache.hadoop.fs.Path(java.java.net.URI(sorted(files)[0]))
    hadoop = spark._jsc.hadoopConfiguration()
    source = java.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(file, hadoop)
    reader = java.org.apache.parquet.hadoop.ParquetFileReader.open(source)
    try:
        return list(reader.getFooter().getFileMetaData().getSchema().getFields())
    finally:
        reader.close()


def _readable(spark: SparkSession, group: JavaObject) -> tuple[StructField | None, Column]:
    """The column as Spark reads it, and its value; no field if neither Spark nor we know it."""
    java: Any = spark._jvm
    conf = spark._jsparkSession.sessionState().conf()
    parquet = java.org.apache.spark.sql.execution.datasources.parquet
    alone = java.org.apache.parquet.schema.Types.buildMessage().addField(group).named("alone")
    name = str(group.getName())
    try:
        schema = parquet.ParquetToSparkSchemaConverter(conf).convert(alone)
    except (PySparkException, Py4JJavaError):
        for part, (kind, meaning) in _KNOWN_HERE.items():
            if part in group.toString() and group.isPrimitive():
                value = F.expr(meaning.format(name.replace("`", "``"))).alias(name)
                return StructField(name, kind), value
        return None, F.lit(None)
    return StructType.fromJson(json.loads(schema.json())).fields[0], F.col(quoted(name))
