"""(b) The iterator pandas UDF: weights broadcast, network once a partition, a DataLoader inside.

The form: Databricks' reference solution for image applications, "Distributed inference via PyTorch
and pandas UDF"
https://docs.databricks.com/en/_extras/notebooks/source/deep-learning/dist-img-infer-2-pandas-udf.html
with a Dataset over the batch, a DataLoader of 64 that loads in the worker itself (its default), no
gradients. Processes of the DataLoader's own (8 in the older notebook) would share two cores with
two busy workers.
"""

from __future__ import annotations

from collections.abc import Iterator

import lane as lanes
import pandas as pd
import spark as sparks
import torch
from pyspark.sql.functions import col, pandas_udf
from torch.utils.data import DataLoader, Dataset


class Photos(Dataset):
    """The images of one Arrow batch."""

    def __init__(self, lane: lanes.Lane, paths: list[str]) -> None:
        self._lane = lane
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self._lane.opened(self._paths[index])


def main() -> None:
    """Table to scores; timed from the broadcast on."""
    lane = lanes.given()
    session = sparks.session(lane)

    def race() -> None:
        state = session.sparkContext.broadcast(lanes.load(lane.state))

        @pandas_udf("float")
        def score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
            network = lane.network(state.value)
            for paths in batches:
                loader = DataLoader(Photos(lane, paths.tolist()), batch_size=lane.rows)
                scores = torch.cat([lane.scores(network, batch) for batch in loader])
                yield pd.Series(scores.numpy())

        sparks.write(sparks.images(session, lane), score(col("image_url")), lane)

    lanes.run(race, "pyspark", "pandas", "pyarrow")


if __name__ == "__main__":
    main()
