"""Every table that toiletspark writes: its key, and its columns with type and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

# The decision on an image, and its reason.
#   model       the exclusion score against the operating threshold
#   hysteresis  the score is so near to the threshold that the last decision stands
#   last_score  there is no score now; the last one decides, for publish.keep_score_days
#   override    a person decided
#   unscored    there is no score, and publish.failures decides
DECISIONS_OF_IMAGES = ("keep", "exclude", "unscored")
REASONS = ("model", "hysteresis", "last_score", "override", "unscored")

ARROW_TYPES = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "binary": pa.binary(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class Table:
    """A table of ours; `name` is its folder in the output root."""

    name: str
    key: tuple[str, ...]  # the columns that identify a row
    columns: dict[str, str]  # names and Spark types
    schema_version: int = 1  # grows when columns change their meaning
    about: str = ""  # the meaning of a row
    meanings: dict[str, str] = field(default_factory=dict)  # of the columns that need a word

    @property
    def schema(self) -> str:
        """The columns as Spark's DDL text."""
        return spark_schema(self.columns)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as an Arrow schema."""
        return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in self.columns.items()])

    def with_columns(self, columns: dict[str, str]) -> Table:
        """This table with further columns at its end."""
        return replace(self, columns={**self.columns, **columns})


def quoted(name: str) -> str:
    """A column name for Spark's expressions; it may hold dots, blanks and backticks.

    >>> quoted("a`b")
    '`a``b`'
    """
    return "`" + name.replace("`", "``") + "`"


def spark_schema(columns: Mapping[str, str]) -> str:
    """Names and types as Spark's DDL text."""
    return ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())


def probability_columns(classes: tuple[str, ...]) -> dict[str, str]:
    """The columns of SCORES that hold one probability per class, in the head's order."""
    return {f"p_{name}": "float" for name in classes}


def _table(text: str) -> Table:
    """A table from its title, the sentences on a row, and lines of column, type and meaning."""
    head, _, lines = text.strip().partition("\n\n")
    title, _, about = head.partition("\n")
    name, _, version, _, *key = title.replace(",", "").split()
    words = [[*line.split(maxsplit=2), ""] for line in lines.splitlines() if line]
    columns = {column: kind for column, kind, *_ in words}
    meanings = {column: meaning for column, _, meaning, *_ in words if meaning}
    return Table(name, tuple(key), columns, int(version), about.replace("\n", " "), meanings)


_IMAGE_LINES = """
image_id       string
image_version  string     the user's own, or a digest of the URL or the inline bytes
listing_id     string
position       int        among the images of the listing
image_url      string
location       string     of the listing
listing_type   string     of the listing
active         boolean    of the listing
stratum        string     location | listing_type
"""

IMAGES = _table(f"""
images, version 1, key image_id
The user's images as one run saw them, without their bytes; not stored.

{_IMAGE_LINES}
""")

CATALOG = _table(f"""
catalog, version 3, key image_id
One row per image of the user's table at the time of the run, with its newest attempt. Scores and
versions belong to such a snapshot.

{_IMAGE_LINES}
status         string     ok, or how the attempt failed
detail         string     never holds a URL
content_digest string     SHA-256 of the file
""")

SAMPLE = _table("""
sample, version 2, key image_id
One row per drawn image.

image_id              string
listing_id            string
stratum               string
listing_probability   double  (0, 1], that the listing was drawn; 1 where images are the units
image_probability     double  (0, 1], that the image was drawn in its listing
inclusion_probability double  the product of both
weight                double  1 / inclusion_probability
""")

SAMPLE_UNITS = _table("""
sample_units, version 1, key unit
One row per unit of the design, drawn or not, also of those that are gone, under the run_id of the
sample. Only with sampleby.

unit   bigint  xxhash64 of its id
number double  (0, 1], never changes; the unit is drawn if it is at most the chance
chance double  [0, 1], inclusion probability: the highest fraction of its strata at any draw so far
""")

_LABEL_LINES = """
image_id       string
labeller       string
class          string
content_digest string     of the picture that was seen; null for labels from a table
labelled_at    timestamp
how            string     the type of its source, as in label_studio
"""

LABELS = _table(f"""
labels, version 1, key image_id labeller
The last label of each labeller for each image. folder_presorted: the picture lay in the folder by
the head's scores, and somebody looked through the folder and left it there. The other values of
how are folder, image_folder, table, sheet, label_studio and override.

{_LABEL_LINES}
""")

LABEL_SOURCES = _table("""
label_sources, version 1, key source image_id class
The last imported value per source, so that importing an unchanged folder or table again does not
overwrite newer labels. Under the run_id of the labels.

source   string
image_id string
class    string
labeller string
""")

CONFLICTS = _table(f"""
conflicts, version 1, key conflict image_id labeller
The labels that contradict each other about one content, under the run_id of the labels.

conflict int numbers the contents, from 1
{_LABEL_LINES}
""")

PICTURE = "picture "  # and its content_digest: the image_id of a labelled picture

PICTURES = _table("""
pictures, version 1, key content_digest
The labelled pictures of plain folders that the catalog did not have at the import; all runs
together are the table. They train, and are in no catalog, score or list.

content_digest string
file           string  its path in the folder at the first import
content        binary  the file
""")

QUEUES = _table("""
queues, version 1, key image_id
The images that people look at next.

image_id              string
listing_id            string
content_digest        string
rank                  int     1 comes first
reason                string  uncertain, random or label_doubt
score                 float
suggested             string  a class
label                 string  a class
inclusion_probability double  null if the row was not drawn at random; 1 / it = images it stands for
""")

IMAGE_LEDGER = _table("""
image_ledger, version 1, key image_id image_version
One row per attempt at an image; the newest attempt counts.

image_id       string
image_version  string
status         string
detail         string     never holds a URL
content_digest string
width          int        pixels
height         int        pixels
bytes          bigint
attempts       int
attempted_at   timestamp
host           string     that the image was fetched from, with its port; "" for local files
decoder        string     a digest of [decode], fetch.max_image_bytes and Pillow's version
""")

EMBEDDINGS = _table("""
embeddings, version 1, key content_digest backbone_id
One row per distinct content and backbone.

content_digest string
backbone_id    string
embedding      binary  little-endian float16, 512 of them for ResNet18
""")

ALONE = "image "  # and its image_id: the listing of a labelled image of which no listing is known

_LABELLED_LINES = """
image_id       string
listing_id     string
stratum        string
content_digest string
label          string  the class; petastorm cannot read a column called class
weight         double  images of the catalog that it stands for
draw           string  the sample or queue that drew it
"""

TRAINING_SET = _table(f"""
training_set, version 2, key image_id
One row per labelled image that has an embedding: all that training needs, without Spark.

{_LABELLED_LINES}
embedding binary as in embeddings
""")

LABELLED = {name: kind for name, kind in TRAINING_SET.columns.items() if name != "embedding"}

SECOND_LOOK_SET = replace(
    TRAINING_SET,
    name="second_look_set",
    about="The same for all labels, conflicts included: the input of a second look.",
)

GOLDEN_IMAGES = _table("""
golden_images, version 1, key image_id
Images that prove that a machine computes the same, under the run_id of the training set.

image_id       string
content_digest string  of the labelled file
label          string
jpeg           binary  made anew from the labelled picture
embedding      binary  of the jpeg
""")

TRAINING_VIEWS = _table("""
training_views, version 1, key content_digest backbone_id view
Flipped and cropped views of labelled contents; never used to score the catalog.

content_digest string
backbone_id    string
view           string
embedding      binary
""")

TRAINING_IMAGES = _table(f"""
training_images, version 1, key image_id
The files behind the labels, on which a backbone is fine-tuned.

{_LABELLED_LINES}
content binary the file as it was labelled
""")

HEADS = _table(f"""
heads, version 2, key image_id
Each run folder holds a head, and one row per image with which it was made.

{_LABELLED_LINES}
held_out        boolean
exclusion_score float    of held-out images; else null
""")

SCORES = _table("""
scores, version 1, key image_id
One row per scored image, with a column p_<class> per class at its end: float, [0, 1], the sum of
a row is 1.

image_id        string
listing_id      string
content_digest  string
head_id         string
exclusion_score float   [0, 1], higher = more surely excluded
""")

DECISIONS = _table("""
decisions, version 1, key image_id
One row per image of the catalog: the decision of a version, and its grounds.

image_id        string
listing_id      string
stratum         string
image_version   string
content_digest  string     the last one that could be read
status          string
detail          string
exclusion_score float      the score that decided, possibly an older one; null: none
head_id         string     of that score
scored_at       timestamp  of that score
decision        string     keep, exclude or unscored
reason          string     model, hysteresis, last_score, override or unscored
was             string     the decision of the version before; null: none
since           timestamp  the moment from which an image without a score had none
override        string     who decided, and why
run_id          string
""")

EXCLUSION_LIST = _table("""
exclusion_list, version 1, key image_id
One row per excluded image.

image_id        string
listing_id      string
reason          string  model (hysteresis and last_score included), override or unscored
exclusion_score float
head_id         string
run_id          string
""")

UNSCORED = _table("""
unscored, version 2, key image_id
One row per image that has no score now.

image_id      string
listing_id    string
status        string
detail        string
failure_class string     content, transient, gone, input or policy
decision      string     as in decisions
since         timestamp  as in decisions
""")

STRATA = _table("""
strata, version 1, key stratum
One row per stratum of a version: what audits and drift compare.

stratum   string
images    bigint
kept      bigint
excluded  bigint
unscored  bigint
no_score  bigint
policy    bigint  images whose access was refused
histogram binary  of today's exclusion scores: 100 equal bins over [0, 1], little-endian int64
""")

BEST_IMAGES = _table("""
best_images, version 1, key listing_id
The best image that the feed still shows of each listing, under the run_id of the feed.

listing_id string
image_id   string  null: no image is left
position   int
why        string  in words
remaining  bigint  images of the listing that the feed shows
excluded   bigint  images so decided, shown or not (feed.mode)
unscored   bigint  images so decided, shown or not (feed.mode)
""")

ALERTS = _table("""
alerts, version 1, key image_id
The images that agents should look at: all that are not plainly kept. Under the run_id of the
feed.

image_id   string
listing_id string
why        string     a sentence for people
decision   string     as in decisions
status     string
score      float
since      timestamp
""")

LEAKS = _table("""
leaks, version 1, key content_digest
The contents that a leak sample drew from the sound images of a version, under the run_id of its
queue, each with one of its images, chosen by hash.

content_digest        string
image_id              string
listing_id            string
stratum               string
exclusion_score       float   the highest of its images
kept                  int     images of the content that the version keeps
excluded              int     images of the content that the version excludes
inclusion_probability double  each of its images stands for 1 / inclusion_probability images
reason                string
rank                  int     in the queue; null if its label was known before
""")

FEED = Table("feed", (), {}, about="The user's feed table without excluded images.")

RUN_TABLES = (
    *(CATALOG, SAMPLE, SAMPLE_UNITS, LABELS, QUEUES, LABEL_SOURCES, CONFLICTS, PICTURES),
    *(IMAGE_LEDGER, EMBEDDINGS, TRAINING_SET, SECOND_LOOK_SET, GOLDEN_IMAGES, TRAINING_VIEWS),
    *(TRAINING_IMAGES, HEADS, SCORES, DECISIONS, EXCLUSION_LIST, UNSCORED, STRATA, LEAKS, FEED),
    *(BEST_IMAGES, ALERTS),
)
