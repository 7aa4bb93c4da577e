"""Shows what each stratum would give to the sample, before anything is drawn; writes nothing.

spark-submit --py-files dist/*.whl jobs/preview_sample.py --conf-file mytables.toml
"""

from toiletspark.config.command_line import Summary
from toiletspark.launch.job import Job
from toiletspark.reports.sample_page import preview
from toiletspark.sampling import allocation, strata
from toiletspark.tables import listing_checks
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Counts units, allocated images, sampling fraction and design weight per stratum."""
    _, listings = listing_checks.check(work.spark, work.config)
    bands = strata.cut_bands(work.spark, work.config, listings.rows)
    cells = strata.measure_strata(work, strata.read_frame(work.spark, work.config, bands))
    section = work.config.sample
    joined = {**strata.named(cells).summary, **listings.summary} if listings.rows else {}
    return {**preview.preview(cells, allocation.allocate_sample(cells, section), section), **joined}


JOB = Job("preview_sample", step, __doc__, show=preview.show, read_only=True)

if __name__ == "__main__":
    JOB.submit()
