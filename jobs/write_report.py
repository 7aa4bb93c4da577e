"""Writes the run page: one HTML file with excluded, borderline and unscored images.

spark-submit --py-files dist/*.whl jobs/write_report.py --conf-file mytables.toml
"""

from toiletspark.config.command_line import Summary
from toiletspark.launch.job import Job
from toiletspark.reports.run_page import gather
from toiletspark.tables.workspace import Workspace


def step(work: Workspace, seconds: dict[str, float] | None = None) -> Summary:
    """Writes the page of the live version; `seconds` has the wall times of the steps before."""
    return {"report": str(gather.write_page(work, seconds or {}))}


JOB = Job("write_report", step, __doc__)

if __name__ == "__main__":
    JOB.submit()
