"""Gathers labelled embeddings and golden images on the cluster, then fits a head to them.

    spark-submit --py-files dist/*.whl jobs/train_head.py --conf-file mytables.toml

The fit runs in a process of its own on this machine. `python -m training.train` alone fits again on
what was gathered last, without Spark and without Java.
"""

from toiletspark.config.command_line import Summary
from toiletspark.labels import pictures
from toiletspark.labels.training_inputs import (
    golden_images,
    training_images,
    training_set,
    training_views,
)
from toiletspark.launch import trainer
from toiletspark.launch.job import Job
from toiletspark.reports.head_page import gather
from toiletspark.tables.schemas import TRAINING_SET
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Trains a head; labels whose image has no embedding are counted and not used."""
    pictures.embed(work)  # a changed backbone has no embeddings of them yet
    summary = training_set.gather(work, TRAINING_SET)
    source = work.store.require(TRAINING_SET, doing="training the head", step="train")
    summary |= golden_images.keep(work, source)
    summary |= training_views.gather(work)
    summary |= training_images.gather(work)
    summary |= trainer.train(work.config)
    return {**summary, "head_report": gather.write_page(work, summary["head"])}


JOB = Job("train_head", step, __doc__)

if __name__ == "__main__":
    JOB.submit()
