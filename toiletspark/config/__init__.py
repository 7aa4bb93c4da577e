"""The configuration: what each key may hold. `conf/base.toml` gives every key its value, unit and reason;
`conf_files` reads it. A run stores the resolved configuration in its manifests.

`whole` puts the sections together: `user_tables`, `labelling`, `images`, `heads`, `publishing`. `kinds` has what
several of them say.
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
from toiletspark.config.model import Finetune, Score, Train, View
from toiletspark.config.publishing import Audits, Leaks, Policy, PolicyName, Publish
from toiletspark.config.root import Config, Spark
from toiletspark.config.user_tables import Feed, Images, Listings, Overrides, Table

__all__ = [
    "Audits",
    "BackboneSettings",
    "Config",
    "Decode",
    "Embed",
    "Feed",
    "Fetch",
    "Finetune",
    "Images",
    "Int8",
    "JpegDecoder",
    "Labels",
    "Leaks",
    "Listings",
    "Overrides",
    "Policy",
    "PolicyName",
    "Precision",
    "Publish",
    "Runtime",
    "Sample",
    "Score",
    "ShardColumns",
    "Spark",
    "Table",
    "Train",
    "View",
]
