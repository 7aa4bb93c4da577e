"""The tables that toiletspark writes: key, grain, columns, and the closed list of what can become of an image."""

from __future__ import annotations

from dataclasses import dataclass

# Of each image of a catalog one decision, for one reason.
#   model       its exclusion score against the operating threshold
#   hysteresis  its score is so near to the threshold that the last decision stands
#   last_score  it has no score now; the last one decides, for publish.keep_score_days
#   override    somebody has said so
#   unscored    it has no score, and publish.failures says what becomes of such images
DECISIONS_OF_IMAGES = ("keep", "exclude", "unscored")
REASONS = ("model", "hysteresis", "last_score", "override", "unscored")


@dataclass(frozen=True)
class Table:
    """A table of ours: `columns` maps names to Spark types, `key` names what identifies a row (the grain)."""

    name: str
    key: tuple[str, ...]
    columns: dict[str, str]
    schema_version: int = 1

    @property
    def schema(self) -> str:
        """The columns as Spark's DDL text."""
        return ", ".join(f"`{name}` {kind}" for name, kind in self.columns.items())

    def with_columns(self, columns: dict[str, str]) -> Table:
        """This table with further columns at its end."""
        return Table(self.name, self.key, {**self.columns, **columns}, self.schema_version)


# The user's images as one run saw them, without their bytes. One row per image_id.
IMAGES = Table(
    "images",
    ("image_id",),
    {
        "image_id": "string",
        "image_version": "string",
        "listing_id": "string",
        "position": "int",
        "image_url": "string",
        "location": "string",
        "listing_type": "string",
        "active": "boolean",
        "stratum": "string",
    },
)

# The same with what has become of each image: its newest attempt. A run exists once every image was tried, and the
# sound ones have an embedding of its backbone; scores and lists belong to such a snapshot. embedding_file is the place
# of a file in the list `inputs.embeddings` of the manifest, embedding_row the row there, both from 0; null where the
# content has no embedding. Images whose embeddings share a file share a file, so that it is read once. Version 1 did
# not say where embeddings lie.
CATALOG = Table(
    "catalog",
    ("image_id",),
    {
        **IMAGES.columns,
        "status": "string",
        "detail": "string",
        "content_digest": "string",
        "embedding_file": "int",
        "embedding_row": "int",
    },
    schema_version=2,
)

# One row per drawn image. listing_probability and image_probability, both in (0, 1], are those of the two stages: that
# the listing is drawn (1 where images are the units, so that all listings are looked into), and the image among those
# that it competes with. inclusion_probability is their product, weight = 1 / inclusion_probability. Version 1 had no
# stages.
SAMPLE = Table(
    "sample",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "stratum": "string",
        "listing_probability": "double",
        "image_probability": "double",
        "inclusion_probability": "double",
        "weight": "double",
    },
    schema_version=2,
)

# One row per (image_id, labeller), the labeller's last word; content_digest may be null (labels from a table). how:
#   folder            somebody has dragged the picture into the class folder
#   folder_presorted  it lay there by the head's scores, and somebody has looked through the folder and left it
#   table, sheet, label_studio   as the labels table, the contact sheet, Label Studio say
#   override    somebody has decided what becomes of the image, and with that said what it shows
LABELS = Table(
    "labels",
    ("image_id", "labeller"),
    {
        "image_id": "string",
        "labeller": "string",
        "class": "string",
        "content_digest": "string",
        "labelled_at": "timestamp",
        "how": "string",
    },
)

# What each folder and each table said when it was last imported, under the run_id of the labels: a place that repeats
# itself says nothing new, whatever was said elsewhere since.
LABEL_SOURCES = Table(
    "label_sources",
    ("source", "image_id"),
    {"source": "string", "image_id": "string", "class": "string", "labeller": "string"},
)

# The labels that contradict each other about one content, under the run_id of the labels; conflict numbers them.
CONFLICTS = Table(
    "conflicts", ("conflict", "image_id", "labeller"), {"conflict": "int", **LABELS.columns}
)

# Which images people look at next, rank 1 first; reason: uncertain, random or label_doubt. suggested and label are
# classes; inclusion_probability is null where chance had no part. 1 / inclusion_probability is how many images a row
# stands for, with its equals and lookalikes in the draw.
QUEUES = Table(
    "queues",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "content_digest": "string",
        "rank": "int",
        "reason": "string",
        "score": "float",
        "suggested": "string",
        "label": "string",
        "inclusion_probability": "double",
    },
)

# One row per (image_id, image_version) and run; the newest attempt wins. detail never holds a URL.
IMAGE_LEDGER = Table(
    "image_ledger",
    ("image_id", "image_version"),
    {
        "image_id": "string",
        "image_version": "string",
        "status": "string",
        "detail": "string",
        "content_digest": "string",
        "width": "int",
        "height": "int",
        "bytes": "bigint",
        "attempts": "int",
        "attempted_at": "timestamp",
    },
)

# One row per (content_digest, backbone_id); embedding: little-endian float16, 512 of them for ResNet18.
EMBEDDINGS = Table(
    "embeddings",
    ("content_digest", "backbone_id"),
    {"content_digest": "string", "backbone_id": "string", "embedding": "binary"},
)

ALONE = "image "  # and its image_id: the listing of a labelled image of which no listing is known

# What is known of a labelled image, in all tables that training/ reads or writes.
LABELLED = {
    "image_id": "string",
    "listing_id": "string",
    "stratum": "string",
    "content_digest": "string",
    "label": "string",
    "weight": "double",
    "draw": "string",
}

# One row per labelled image that has an embedding: all that training/ needs, without Spark. label is the class;
# petastorm makes attributes of column names, and `class` cannot be one. stratum: location x listing type, as in the
# catalog. Version 1 had no stratum.
TRAINING_SET = Table(
    "training_set", ("image_id",), {**LABELLED, "embedding": "binary"}, schema_version=2
)

# The same for all labels, also those in conflict: what a second look judges.
SECOND_LOOK_SET = Table(
    "second_look_set", TRAINING_SET.key, TRAINING_SET.columns, TRAINING_SET.schema_version
)

# The golden images that a head's bundle will carry (see `golden.py`), under the run_id of the training set: jpeg is
# made anew from the labelled picture, embedding is that of the jpeg, content_digest that of the labelled file.
GOLDEN_IMAGES = Table(
    "golden_images",
    ("image_id",),
    {
        "image_id": "string",
        "content_digest": "string",
        "label": "string",
        "jpeg": "binary",
        "embedding": "binary",
    },
)

# Views of labelled contents, see `views.py`; never of the catalog. All runs together are the table, as with embeddings.
TRAINING_VIEWS = Table(
    "training_views",
    ("content_digest", "backbone_id", "view"),
    {"content_digest": "string", "backbone_id": "string", "view": "string", "embedding": "binary"},
)

# One row per image of a training_set run whose file could be had, with the file as it was labelled: what a backbone is
# fine-tuned on.
TRAINING_IMAGES = Table(
    "training_images",
    ("image_id",),
    {**LABELLED, "content": "binary"},
)

# Each run folder holds a head (see `head.py`), and one row per image with which it was made: those that were held out
# have its exclusion_score, the others null. So figures, thresholds and comparisons need neither training nor scoring.
# Version 1 had no rows.
HEADS = Table(
    "heads",
    ("image_id",),
    {**LABELLED, "held_out": "boolean", "exclusion_score": "float"},
    schema_version=2,
)

# One row per scored image, with one column p_<class> per class (float, [0, 1], they add up to 1) at its end.
# exclusion_score: [0, 1], higher = more surely to be excluded.
SCORES = Table(
    "scores",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "content_digest": "string",
        "head_id": "string",
        "exclusion_score": "float",
    },
)

# One row per image of the catalog: what a version decides, and on what. decision: `DECISIONS_OF_IMAGES`, reason:
# `REASONS`. exclusion_score, head_id and scored_at are those of the score that decided, which may be an older one
# (last_score), and null where there is none. content_digest: that of before where a version of an image that was read
# before cannot be read now. was: the decision of the version before, null where it had none. since:
# when an image without a score began to have none. override: who and why, of an override.
DECISIONS = Table(
    "decisions",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "stratum": "string",
        "image_version": "string",
        "content_digest": "string",
        "status": "string",
        "detail": "string",
        "exclusion_score": "float",
        "head_id": "string",
        "scored_at": "timestamp",
        "decision": "string",
        "reason": "string",
        "was": "string",
        "since": "timestamp",
        "override": "string",
        "run_id": "string",
    },
)

# One row per excluded image; reason: model (hysteresis and last_score are a model's word too), override or unscored.
EXCLUSION_LIST = Table(
    "exclusion_list",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "reason": "string",
        "exclusion_score": "float",
        "head_id": "string",
        "run_id": "string",
    },
)

# One row per image that has no score now; decision as in DECISIONS: what the version makes of it.
UNSCORED = Table(
    "unscored",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "status": "string",
        "detail": "string",
        "failure_class": "string",
        "decision": "string",
        "since": "timestamp",
    },
    schema_version=2,
)

# One row per stratum of a version: its images by decision, those that were denied (policy), and a histogram of the
# exclusion scores of now in 100 equal bins over [0, 1], as little-endian int64. What audits and drift compare.
STRATA = Table(
    "strata",
    ("stratum",),
    {
        "stratum": "string",
        "images": "bigint",
        "kept": "bigint",
        "excluded": "bigint",
        "unscored": "bigint",
        "no_score": "bigint",
        "policy": "bigint",
        "histogram": "binary",
    },
)

# Under the run_id of a feed, one row per listing of which the feed table and the version's catalog know an image.
# image_id, position: of the best image that the feed still shows, both null where none is left; position alone where
# there is no order. why: in words. remaining: the listing's images that the feed shows; excluded, unscored: those so
# decided, whether the feed shows them or not (feed.mode).
BEST_IMAGES = Table(
    "best_images",
    ("listing_id",),
    {
        "listing_id": "string",
        "image_id": "string",
        "position": "int",
        "why": "string",
        "remaining": "bigint",
        "excluded": "bigint",
        "unscored": "bigint",
    },
)

# Under the run_id of a feed, one row per image of the version that is not plainly kept: what agents should look at.
# why: a sentence for people; decision, status, score and since as in DECISIONS.
ALERTS = Table(
    "alerts",
    ("image_id",),
    {
        "image_id": "string",
        "listing_id": "string",
        "why": "string",
        "decision": "string",
        "status": "string",
        "score": "float",
        "since": "timestamp",
    },
)


# The contents that a leak sample has drawn from the sound images of a version, under the run_id of its queue. One image
# of each, chosen by hash, with its listing and stratum; kept and excluded: how many images of the content the version
# keeps and excludes; exclusion_score: the highest of them; inclusion_probability: of the content, so that each of its
# images stands for 1 / inclusion_probability images. rank: in the queue; null where its label was known before.
LEAKS = Table(
    "leaks",
    ("content_digest",),
    {
        "content_digest": "string",
        "image_id": "string",
        "listing_id": "string",
        "stratum": "string",
        "exclusion_score": "float",
        "kept": "int",
        "excluded": "int",
        "inclusion_probability": "double",
        "reason": "string",
        "rank": "int",
    },
)

# All tables whose folders hold runs; the feed's columns are the user's.
FEED = Table("feed", (), {})
RUN_TABLES = (
    CATALOG,
    SAMPLE,
    LABELS,
    QUEUES,
    LABEL_SOURCES,
    CONFLICTS,
    IMAGE_LEDGER,
    EMBEDDINGS,
    TRAINING_SET,
    SECOND_LOOK_SET,
    GOLDEN_IMAGES,
    TRAINING_VIEWS,
    TRAINING_IMAGES,
    HEADS,
    SCORES,
    DECISIONS,
    EXCLUSION_LIST,
    UNSCORED,
    STRATA,
    LEAKS,
    FEED,
    BEST_IMAGES,
    ALERTS,
)


def probability_columns(classes: tuple[str, ...]) -> dict[str, str]:
    """The columns of SCORES that hold one probability per class, in the head's order."""
    return {f"p_{name}": "float" for name in classes}
