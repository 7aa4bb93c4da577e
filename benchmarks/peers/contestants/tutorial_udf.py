"""(a) The tutorials' pandas UDF, series to series: weights broadcast, network built in each call.

The form: Databricks' "Distributed model inference using PyTorch"
(https://docs.databricks.com/_static/notebooks/deep-learning/pytorch-images.html) without its
DataLoader, which is what (b) has. A series-to-series UDF has no place for state, so the network is
built anew for every Arrow batch.
"""

from __future__ import annotations

import lane as lanes
import pandas as pd
import spark as sparks
import torch
from pyspark.sql.functions import col, pandas_udf


def main() -> None:
    """Table to scores; timed from the broadcast on."""
    lane = lanes.given()
    session = sparks.session(lane)

    def race() -> None:
        state = session.sparkContext.broadcast(lanes.load(lane.state))

        @pandas_udf("float")
        def score(paths: pd.Series) -> pd.Series:
            network = lane.network(state.value)
            batch = torch.stack([lane.opened(path) for path in paths])
            return pd.Series(lane.scores(network, batch).numpy())

        sparks.write(sparks.images(session, lane), score(col("image_url")), lane)

    lanes.run(race, "pyspark", "pandas", "pyarrow")


if __name__ == "__main__":
    main()
