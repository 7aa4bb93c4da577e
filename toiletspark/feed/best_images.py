"""The best remaining image of each listing, and the listings that have none left."""

from collections.abc import Iterable, Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.errors import ConfigError, OutputError, nearest, shown
from toiletspark.feed.feed import REMOVED
from toiletspark.feed.readers import Current
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Run
from toiletspark.tables.schemas import CATALOG, SCORES, Table

FIRST = 10  # listings without an image that are named


def of_version(
    spark: SparkSession, config: Config, version: Current, images: DataFrame
) -> DataFrame:
    """`choose` with the catalog of a version and, for feed.best_by "rooms", its scores.

    Raises OutputError if the catalog or the scores are gone. See also `preferred`.
    """
    catalog = spark_io.read_run(spark, _source(version, CATALOG))
    rooms = None
    if config.feed.best_by == "rooms":
        scores = _source(version, SCORES)
        rooms = wanted_rooms(spark_io.read_run(spark, scores), preferred(config, scores))
    return choose(images, catalog, config.feed.mode, rooms)


def choose(
    images: DataFrame, catalog: DataFrame, mode: str, rooms: DataFrame | None = None
) -> DataFrame:
    """The best remaining image of each listing, in the agent's order or by rooms.

    Args:
        images: see `feed.standings`; only those with a listing count.
        catalog: the columns image_id and position of `schemas.CATALOG`.
        mode: open, mixed or closed: which images remain.
        rooms: see `wanted_rooms`; None takes the agent's order alone: by position, nulls last, then
            by image_id.

    Returns the columns of `schemas.BEST_IMAGES`, one row per listing. Cost: one join by id for the
    order and one for rooms, one shuffle by listing.
    """
    images = images.where(F.col("listing_id").isNotNull())
    images = images.join(catalog.select("image_id", "position"), on="image_id", how="left")
    if rooms is None:
        images = images.withColumns({"room": F.lit(""), "rank": F.lit(0), "less": F.lit(0.0)})
    else:
        images = images.join(rooms, on="image_id", how="left")
    remains = ~F.col("standing").isin(*REMOVED[mode])
    best = images.groupBy("listing_id").agg(
        F.min(F.when(remains, _order())).alias("best"),  # structs compare field by field
        F.count_if(remains).alias("remaining"),
        F.count_if(F.col("decision") == "exclude").alias("excluded"),
        F.count_if(F.col("decision") == "unscored").alias("unscored"),
    )
    return best.select(
        "listing_id",
        F.col("best.image_id").alias("image_id"),
        F.col("best.position").alias("position"),
        _why(by_rooms=rooms is not None).alias("why"),
        "remaining",
        "excluded",
        "unscored",
    )


def wanted_rooms(scores: DataFrame, prefer: Sequence[str]) -> DataFrame:
    """The room that each scored image shows, and its rank among the classes to prefer.

    Returns image_id, room (its most probable class; of equals the head's first), rank (index in
    `prefer`; its length for other rooms), less (minus the probability; 0 for other rooms).
    """
    room, top = most_probable(_classes(scores.columns))
    ranks = [F.when(F.col("room") == name, number) for number, name in enumerate(prefer)]
    rank = F.coalesce(*ranks, F.lit(len(prefer)))
    rooms = scores.select("image_id", room.alias("room"), top.cast("double").alias("top"))
    less = F.when(rank < len(prefer), -F.col("top")).otherwise(0.0)
    return rooms.select("image_id", "room", rank.alias("rank"), less.alias("less"))


def most_probable(classes: Sequence[str]) -> tuple[Column, Column]:
    """The most probable of these classes, of equals the first, and its probability."""
    probabilities = {name: F.col(f"`p_{name}`") for name in classes}
    top = F.array_max(F.array(*probabilities.values()))
    is_top = [F.when(probability == top, name) for name, probability in probabilities.items()]
    return F.coalesce(*is_top), top


def _classes(columns: Iterable[str]) -> list[str]:
    return [name.removeprefix("p_") for name in columns if name.startswith("p_")]


def preferred(config: Config, scores: Run) -> list[str]:
    """The classes for feed.best_by "rooms", the most wanted first.

    Raises ConfigError if the head that scored the version does not know one of them.
    """
    labels = config.labels
    wanted = config.feed.prefer_classes
    if not wanted:
        wanted = [name for name in labels.classes if name not in labels.exclude_classes]
    known = _classes(scores.columns)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            doing="choosing the best image of each listing by rooms",
            expected=f"classes of the head that scored the version: {shown(known, 20)}",
            found=f"{shown(unknown)}{nearest(unknown[0], known)}",
            todo="set feed.prefer_classes to classes of this head, or feed.best_by=position",
        )
    return wanted


def first_with_none(best: DataFrame) -> list[str]:
    """The first listings by id that have no image left."""
    none = best.where(F.col("image_id").isNull()).select("listing_id")
    return [row["listing_id"] for row in none.orderBy("listing_id").limit(FIRST).collect()]


def named(first: Sequence[str], count: int) -> str:
    """The first listings without an image, and how many there are beyond them."""
    rest = count - len(first)
    return ", ".join(map(repr, first)) + (f" and {rest} more" if rest else "")


def _source(version: Current, table: Table) -> Run:
    run = version.source(table)
    if run is None:
        raise OutputError(
            doing="choosing the best image of each listing",
            expected=f"the {table.name} that the version {version.number} was decided on",
            found="none in the output folder",
            todo="run `toiletspark publish` again, which takes the newest",
        )
    return run


def _order() -> Column:
    """The least is the best: scored, most wanted, most probable, then the agent's order."""
    return F.struct(
        F.col("room").isNull().alias("without_room"),
        "rank",
        "less",
        F.col("position").isNull().alias("without_position"),
        "position",
        "image_id",
        "room",
    )


def _why(*, by_rooms: bool) -> Column:
    none = F.format_string(
        "no image is left: %d excluded, %d that could not be checked", "excluded", "unscored"
    )
    has_none = F.when(F.col("best").isNull(), none)
    order = F.when(F.col("best.without_position"), "the first by its id, for want of an order")
    order = order.otherwise("the first in the agent's order")
    if not by_rooms:
        return has_none.otherwise(order)
    wanted = F.format_string(
        "shows %s, the room that is wanted most of those the listing has", "best.room"
    )
    unknown = F.concat(F.lit("not known what it shows; "), order)
    other = F.concat(F.lit("none of the rooms wanted; "), order)
    room = F.when(F.col("best.without_room"), unknown).when(F.col("best.less") < 0, wanted)
    return has_none.otherwise(room.otherwise(other))
