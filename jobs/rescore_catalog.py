"""Embeds what is new, scores the catalog, publishes: the command of a scheduler.

    spark-submit --py-files dist/*.whl jobs/rescore_catalog.py --conf-file mytables.toml

The cost is that of the changes since the last run.
"""

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.embedding import int8
from toiletspark.jobs import embed_images, publish_exclusions, score_catalog
from toiletspark.launch.job import Job, run_in_turn
from toiletspark.model import registry
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

_DOING = "rescoring the catalog"


def prepare(config: Config) -> None:
    """Reports a missing or damaged head before Spark starts, and begins to load the backbone."""
    registry.current(Store.open(config.output.root), config.score.head, doing=_DOING)
    int8.start_loading(config)


def step(work: Workspace) -> Summary:
    """Runs the steps; a head that does not fit stops the run before the first image is read."""
    steps = [CHECK_JOB, embed_images.JOB, score_catalog.JOB, publish_exclusions.JOB]
    return run_in_turn(steps, work)


def require_fitting_head(work: Workspace) -> Summary:
    """Stops if the head was fitted on another backbone than the configuration's."""
    chosen = registry.current(work.store, work.config.score.head, doing=_DOING)
    backbone_id = int8.load(work.store, work.config.backbone).backbone_id
    registry.require_backbone(chosen, backbone_id, doing=_DOING)
    return {}


CHECK_JOB = Job("rescore_catalog", require_fitting_head)
JOB = Job("rescore_catalog", step, __doc__, prepare=prepare)

if __name__ == "__main__":
    JOB.submit()
