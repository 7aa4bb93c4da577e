"""Draws a leak sample of the published version: what people label to know how many toilets are still in the feed.

    spark-submit --py-files dist/*.whl jobs/draw_leaks.py --conf-file mytables.toml

It becomes a queue (`toiletspark labels sheet --queue leaks`); `toiletspark leaks show` tells what its labels say.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.feed import leak_meter as leaks
from toiletspark.feed import leak_sample
from toiletspark.labels import merge as labels
from toiletspark.launch import job as entry
from toiletspark.sampling import active_learning as suggestion
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """Each version has a draw of its own, the same one each time; nothing is drawn where no image is sound."""
    store, run_id, section = Store.open(config.output.root), new_run_id(), config.leaks
    version, decisions = leaks.drawn_from(store)
    seed = leaks.seed_of(section.seed, version)
    population = leak_sample.population(frames.read_run(spark, decisions))
    population = frames.set_aside(population, store, run_id, "population")
    drawn = suggestion.draw(population, section.size, section.even_share, seed)
    found = [row.asDict() for row in drawn.drop("size").collect()]
    store.clear(run_id)

    said = leaks.said_of(found, labels.newest(store), config.labels.conflicts)
    known = [
        row["content_digest"] for row, label in zip(found, said, strict=True) if label is not None
    ]
    ranked = leak_sample.ranked(found, known, seed)
    told = {
        "leaks_drawn": len(ranked),
        "leaks_known": len(known),
        "leaks_to_label": len(ranked) - len(known),
    }
    if not ranked:
        return told
    facts = {"config": config.recorded(), "inputs": leaks.inputs_of(version, decisions)}
    rows.write(store, tables.LEAKS, run_id, ranked, **facts)
    run = rows.write(store, tables.QUEUES, run_id, leak_sample.queue(ranked), **facts)
    return {**told, "leaks_queue": run.folder}


if __name__ == "__main__":
    entry.submit(step)
