"""Of each listing the best of the images that a feed still shows, and the listings that have none left."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.errors import ConfigError, OutputError, nearest, shown
from toiletspark.feed.feed import REMOVED
from toiletspark.feed.readers import Current
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run

FIRST = 10  # listings without an image that are named


def of_version(
    spark: SparkSession, config: Config, version: Current, images: DataFrame
) -> DataFrame:
    """`choose` with the catalog, and for feed.best_by "rooms" the scores, that a version was decided on.

    Raises:
        ConfigError: see `preferred`.
        OutputError: the catalog or the scores are gone.
    """
    catalog = frames.read_run(spark, _source(version, tables.CATALOG))
    rooms = None
    if config.feed.best_by == "rooms":
        scores = _source(version, tables.SCORES)
        rooms = wanted_rooms(frames.read_run(spark, scores), preferred(config, scores))
    return choose(images, catalog, config.feed.mode, rooms)


def choose(
    images: DataFrame, catalog: DataFrame, mode: str, rooms: DataFrame | None = None
) -> DataFrame:
    """The best remaining image of each listing, in the agent's order or by rooms.

    Only images that the feed table names count: the best one is a row of the feed. Images without a listing count
    nowhere.

    Args:
        images: see `feed.standings`.
        catalog: the columns image_id and position of `tables.CATALOG`.
        mode: open, mixed or closed: which images remain.
        rooms: see `wanted_rooms`; None: the agent's order alone. The agent's order is position, nulls last, then
            image_id.

    Returns:
        The columns of `tables.BEST_IMAGES`, one row per listing. Cost: one join by id for the order and one for rooms,
        one shuffle by listing.
    """
    known = images.where(F.col("listing_id").isNotNull())
    known = known.join(catalog.select("image_id", "position"), on="image_id", how="left")
    known = _with_rooms(known, rooms)
    remaining = ~F.col("standing").isin(*REMOVED[mode])
    best = known.groupBy("listing_id").agg(
        F.min(F.when(remaining, _order())).alias(
            "best"
        ),  # a struct is compared field by field; nulls are no values
        F.count_if(remaining).alias("remaining"),
        F.count_if(F.col("decision") == "exclude").alias("excluded"),
        F.count_if(F.col("decision") == "unscored").alias("unscored"),
    )
    return best.select(
        "listing_id",
        F.col("best.image_id").alias("image_id"),
        F.col("best.position").alias("position"),
        _why(by_rooms=rooms is not None).alias("why"),
        *("remaining", "excluded", "unscored"),
    )


def wanted_rooms(scores: DataFrame, prefer: Sequence[str]) -> DataFrame:
    """What each scored image shows, and how much that room is wanted.

    Args:
        scores: a run of `tables.SCORES`.
        prefer: classes, the most wanted first.

    Returns:
        image_id, room (its most probable class; of equals the head's first), rank (place of the room in `prefer`, from
        0; their number for all others), less (minus the probability; 0 for rooms that are not wanted).
    """
    columns = [name for name in scores.columns if name.startswith("p_")]
    top = (
        F.greatest(*(F.col(f"`{name}`") for name in columns))
        if columns[1:]
        else F.col(f"`{columns[0]}`")
    )
    room = F.coalesce(
        *(F.when(F.col(f"`{name}`") == top, name.removeprefix("p_")) for name in columns)
    )
    places = [F.when(F.col("room") == name, number) for number, name in enumerate(prefer)]
    rank = F.coalesce(*places, F.lit(len(prefer)))
    named = scores.select("image_id", room.alias("room"), top.cast("double").alias("top"))
    less = F.when(rank < len(prefer), -F.col("top")).otherwise(0.0)
    return named.select("image_id", "room", rank.alias("rank"), less.alias("less"))


def preferred(config: Config, scores: Run) -> list[str]:
    """The classes for feed.best_by "rooms", the most wanted first.

    Raises:
        ConfigError: the head that scored the version does not know one of them.
    """
    section, excluded = config.labels, set(config.labels.exclude_classes)
    wanted = config.feed.prefer_classes or [
        name for name in section.classes if name not in excluded
    ]
    known = [name.removeprefix("p_") for name in scores.columns if name.startswith("p_")]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(
            doing="choosing the best image of each listing by rooms",
            expected=f"classes of the head that scored the version: {shown(known, 20)}",
            found=f"{shown(unknown)}{nearest(unknown[0], known)}",
            todo="set feed.prefer_classes to classes of this head, or feed.best_by=position",
        )
    return wanted


def left_with_none(best: DataFrame) -> tuple[int, list[str]]:
    """How many listings have no image left, and the first of them by id."""
    none = best.where(F.col("image_id").isNull()).select("listing_id")
    return none.count(), [
        row["listing_id"] for row in none.orderBy("listing_id").limit(FIRST).collect()
    ]


def named(first: Sequence[str], none: int) -> str:
    """The first listings without an image, and how many there are beyond them."""
    rest = none - len(first)
    return ", ".join(map(repr, first)) + (f" and {rest} more" if rest else "")


def _source(version: Current, table: tables.Table) -> Run:
    run = version.source(table)
    if run is None:
        raise OutputError(
            doing="choosing the best image of each listing",
            expected=f"the {table.name} that the version {version.number} was decided on",
            found="none in the output folder",
            todo="run `toiletspark publish` again, which takes the newest",
        )
    return run


def _with_rooms(known: DataFrame, rooms: DataFrame | None) -> DataFrame:
    if rooms is None:
        return known.withColumns({"room": F.lit(""), "rank": F.lit(0), "less": F.lit(0.0)})
    return known.join(rooms, on="image_id", how="left")


def _order() -> Column:
    """The least is the best: scored, most wanted, surest, then the agent's order."""
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
    none = F.concat(
        F.lit("no image is left: "),
        "excluded",
        F.lit(" excluded, "),
        "unscored",
        F.lit(" that could not be checked"),
    )
    order = F.when(F.col("best.without_position"), "the first by its id, for want of an order")
    order = order.otherwise("the first in the agent's order")
    if not by_rooms:
        return F.when(F.col("best").isNull(), none).otherwise(order)
    wanted = F.concat(
        F.lit("shows "),
        "best.room",
        F.lit(", the room that is wanted most of those the listing has"),
    )
    return (
        F.when(F.col("best").isNull(), none)
        .when(F.col("best.without_room"), F.concat(F.lit("not known what it shows; "), order))
        .when(F.col("best.less") < 0, wanted)
        .otherwise(F.concat(F.lit("none of the rooms wanted; "), order))
    )
