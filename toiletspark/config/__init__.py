"""Configuration: the keys, their types, and the command line that all programs share.

conf/base.toml has every key once, with unit and reason; no key has a default in code.
"""

from toiletspark.config.images import (
    BackboneSettings,
    Decode,
    Embed,
    Fetch,
    Int8,
    JpegDecoder,
    Precision,
    Runtime,
    ShardColumns,
)
from toiletspark.config.labelling import Labels, Sample
from toiletspark.config.model import Finetune, Train, View
from toiletspark.config.publishing import Audits, Leaks, Policy, PolicyName, Publish
from toiletspark.config.root import Config, Spark
from toiletspark.config.user_tables import VERSIONED, Images, Table

__all__ = [
    "VERSIONED",
    "Audits",
    "BackboneSettings",
    "Config",
    "Decode",
    "Embed",
    "Fetch",
    "Finetune",
    "Images",
    "Int8",
    "JpegDecoder",
    "Labels",
    "Leaks",
    "Policy",
    "PolicyName",
    "Precision",
    "Publish",
    "Runtime",
    "Sample",
    "ShardColumns",
    "Spark",
    "Table",
    "Train",
    "View",
]
