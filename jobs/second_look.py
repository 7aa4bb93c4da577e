"""Gathers the labelled embeddings on the cluster, then ranks the labels that are most likely wrong.

    spark-submit --py-files dist/*.whl jobs/second_look.py --conf-file mytables.toml

The ranking runs in a process of its own on this machine (`python -m training.second_look`).
"""

from toiletspark.config.command_line import Summary
from toiletspark.labels.training_inputs import training_set
from toiletspark.launch import trainer
from toiletspark.launch.job import Job
from toiletspark.tables.schemas import SECOND_LOOK_SET
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Makes one queue of all labelled images, the most doubtful label first, conflicts included."""
    gathered = training_set.gather(work, SECOND_LOOK_SET)
    return {**gathered, **trainer.second_look(work.config)}


JOB = Job("second_look", step, __doc__)

if __name__ == "__main__":
    JOB.submit()
