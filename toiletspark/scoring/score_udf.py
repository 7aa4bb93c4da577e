"""A pandas UDF that applies a head to a column of stored embeddings."""

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


def score_udf(spark: SparkSession, head: Head, errors: WorkerErrors) -> UserDefinedFunction:
    """Returns a pandas UDF: a stored embedding in, a struct of `score_columns` out.

    The head is for the backbone of the embeddings. A worker on which it does not compute its golden
    scores reports to `errors`, and gives nulls: call `errors.raise_first()` after the action.
    """
    shared = spark.sparkContext.broadcast(head)
    columns = score_columns(head)

    def scores(embeddings: pd.Series) -> pd.DataFrame:
        head = shared.value
        is_sound = head.head_id in _checked
        if is_sound or errors.run_check(lambda: require_golden_scores(head)):
            return score(head, embeddings)
        return pd.DataFrame(None, embeddings.index, list(columns), "float32")

    return pandas_udf(scores, spark_schema(columns))  # type: ignore[call-overload, no-any-return]


def score(head: Head, embeddings: pd.Series) -> pd.DataFrame:
    """The `score_columns` of stored embeddings, float32, with their index; none may be null."""
    probabilities = head.probabilities(from_stored(b"".join(embeddings), len(embeddings)))
    scores = {"exclusion_score": head.exclusion_scores(probabilities)}
    scores |= zip(probability_columns(head.classes), probabilities.T, strict=True)
    return pd.DataFrame(scores, embeddings.index)


def require_golden_scores(head: Head) -> None:
    """Raises HeadError if the head does not compute its golden scores here; tries it once."""
    if head.head_id not in _checked:
        doing = f"checking the head {head.head_id} on a worker, before its first batch"
        head.require_golden_scores(doing=doing)
        _checked.add(head.head_id)
