"""Draws a leak sample of the live version; its labels tell how many toilets the feed still shows.

    spark-submit --py-files dist/*.whl jobs/draw_leaks.py --conf-file mytables.toml

People label it as a queue (`toiletspark labels sheet --queue leaks`); `toiletspark leaks show`
gives the figures.
"""

from toiletspark.config.command_line import Summary
from toiletspark.feed import leak_meter, leak_sample
from toiletspark.labels import merge
from toiletspark.launch.job import Job
from toiletspark.sampling import active_learning
from toiletspark.tables import arrow_io, spark_io
from toiletspark.tables.schemas import LEAKS, QUEUES
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Draws the sample: the same one each time for a version, and none where no image is sound."""
    store, section = work.store, work.config.leaks
    version, decisions = leak_meter.drawn_from(store)
    seed = leak_meter.seed_of(section.seed, version)
    population = leak_sample.population(spark_io.read_run(work.spark, decisions))
    population = spark_io.set_aside(population, store, work.run_id, "population")
    drawn = active_learning.draw(population, section.size, section.even_share, seed)
    rows = [row.asDict() for row in drawn.drop("size").collect()]
    store.clear(work.run_id)

    labels = leak_meter.labels_of(rows, merge.newest(store), work.config.labels.conflicts)
    labelled = zip(rows, labels, strict=True)
    known = [row["content_digest"] for row, label in labelled if label is not None]
    ranked = leak_sample.ranked(rows, known, seed)
    summary: Summary = {
        "leaks_drawn": len(ranked),
        "leaks_known": len(known),
        "leaks_to_label": len(ranked) - len(known),
    }
    if not ranked:
        return summary
    config, inputs = work.config.recorded(), leak_meter.inputs_of(version, decisions)
    arrow_io.write(store, LEAKS, work.run_id, ranked, config=config, inputs=inputs)
    queue = leak_sample.queue(ranked)
    run = arrow_io.write(store, QUEUES, work.run_id, queue, config=config, inputs=inputs)
    return {**summary, "leaks_queue": run.folder}


JOB = Job("draw_leaks", step, __doc__)

if __name__ == "__main__":
    JOB.submit()
