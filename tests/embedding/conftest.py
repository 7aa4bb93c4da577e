"""Python workers that log what they do, for the tests of embedding."""

from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from tests.support.counting_workers import WorkerLog, counting_workers


@pytest.fixture(scope="module")
def workers(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerLog]:
    with counting_workers(spark, tmp_path_factory.mktemp("python")) as log:
        yield log
