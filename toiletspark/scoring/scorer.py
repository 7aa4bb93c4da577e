"""A pandas UDF that applies a head to a column of stored embeddings."""

from __future__ import annotations

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.udf import UserDefinedFunction

from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.head import Head
from toiletspark.tables.schemas import probability_columns, spark_schema

_checked: set[str] = set()  # heads that compute their golden scores in this Python worker


def score_columns(head: Head) -> dict[str, str]:
    """The fields of a score, with their Spark types: exclusion_score, and p_<class> each."""
    return {"exclusion_score": "float", **probability_columns(head.classes)}


def scorer(spark: SparkSession, head: Head, errors: WorkerErrors) -> UserDefinedFunction:
    """Returns a pandas UDF: a stored embedding in, a struct of `score_columns` out.

    Args:
        spark: broadcasts the head.
        head: for the backbone of the embeddings.
        errors: a worker on which the head does not compute its golden scores reports here, and
            gives nulls. Call `errors.raise_first()` after the action.
    """
    shared = spark.sparkContext.broadcast(head)
    columns = score_columns(head)

    def score(embeddings: pd.Series) -> pd.DataFrame:
        head = shared.value
        if not (head.head_id in _checked or errors.run_check(lambda: _check_worker(head))):
            return pd.DataFrame(None, embeddings.index, list(columns), "float32")
        probabilities = head.probabilities(from_stored(b"".join(embeddings), len(embeddings)))
        scores = {"exclusion_score": head.exclusion_scores(probabilities)}
        scores |= zip(probability_columns(head.classes), probabilities.T, strict=True)
        return pd.DataFrame(scores)

    return pandas_udf(score, spark_schema(columns))  # type: ignore[call-overload, no-any-return]


def _check_worker(head: Head) -> None:
    doing = f"checking the head {head.head_id} on a worker, before its first batch"
    head.require_golden_scores(doing=doing)
    _checked.add(head.head_id)
