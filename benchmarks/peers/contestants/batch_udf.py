"""(c) Spark's `predict_batch_udf`: builds the network once a worker, then numpy in, numpy out.

The form:
https://spark.apache.org/docs/latest/api/python/reference/api/pyspark.ml.functions.predict_batch_udf.html
Its input is the scalar column of paths; as tensors, 602 KB an image would travel through the JVM.
"""

from __future__ import annotations

from collections.abc import Callable

import lane as lanes
import numpy as np
import spark as sparks
import torch
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql.functions import col
from pyspark.sql.types import FloatType


def main() -> None:
    """Table to scores; timed from the broadcast on."""
    lane = lanes.given()
    session = sparks.session(lane)

    def race() -> None:
        state = session.sparkContext.broadcast(lanes.load(lane.state))

        def make_predict() -> Callable[[np.ndarray], np.ndarray]:
            network = lane.network(state.value)

            def predict(paths: np.ndarray) -> np.ndarray:
                batch = torch.stack([lane.opened(path) for path in paths])
                return lane.scores(network, batch).numpy()

            return predict

        score = predict_batch_udf(make_predict, return_type=FloatType(), batch_size=lane.rows)
        sparks.write(sparks.images(session, lane), score(col("image_url")), lane)

    lanes.run(race, "pyspark", "pandas", "pyarrow")


if __name__ == "__main__":
    main()
