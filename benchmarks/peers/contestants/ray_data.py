"""(d) Ray Data: `map` opens and transforms, `map_batches` with a class scores in a pool of actors.

The form: Ray's "Image Classification Batch Inference with PyTorch"
(https://docs.ray.io/en/latest/data/examples/pytorch_resnet_batch_prediction.html). Ray fuses the
two, so the actors open their images themselves. The table is repartitioned: a small Parquet file is
one block otherwise (also with `override_num_blocks`), and then one actor does all the work.
"""

from __future__ import annotations

from typing import Any

import lane as lanes
import numpy as np
import ray
import torch

BLOCKS_PER_WORKER = 4


class Scorer:
    """An actor of the pool: network built once, from Ray's object store, then batches."""

    def __init__(self, lane: lanes.Lane, state: ray.ObjectRef) -> None:
        self._lane = lane
        self._network = lane.network(ray.get(state))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns image_id and pixels to image_id and exclusion_score."""
        scores = self._lane.scores(self._network, torch.from_numpy(batch["pixels"])).numpy()
        return {"image_id": batch["image_id"], "exclusion_score": scores}


def opened(row: dict[str, Any], lane: lanes.Lane) -> dict[str, Any]:
    """One row of the table to image_id and pixels."""
    return {"image_id": row["image_id"], "pixels": lane.opened(row["image_url"]).numpy()}


def start(workers: int) -> None:
    """Ray with an actor a core.

    Ray's CPUs are slots, not cores. With one a core, the actors take them all and the read tasks
    wait for ever (https://github.com/ray-project/ray/issues/44687); fewer actors leave a core idle
    most of the time. So there are two slots a core, half of them for actors. Ray gives each of its
    processes OMP_NUM_THREADS = its slots = 1.
    """
    ray.init(
        num_cpus=2 * workers, include_dashboard=False, logging_level="ERROR", log_to_driver=False
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.get(ray.remote(lambda: 1).remote())


def main() -> None:
    """Table to scores; timed from the reading of the weights on."""
    lane = lanes.given()
    start(lane.workers)

    def race() -> None:
        images = ray.data.read_parquet(lane.table).repartition(BLOCKS_PER_WORKER * lane.workers)
        scored = images.map(opened, fn_args=(lane,)).map_batches(
            Scorer,
            fn_constructor_args=(lane, ray.put(lanes.load(lane.state))),
            batch_size=lane.rows,
            compute=ray.data.ActorPoolStrategy(size=lane.workers),
            num_cpus=1,
        )
        scored.write_parquet(lane.out)

    lanes.run(race, "ray", "pandas", "pyarrow")


if __name__ == "__main__":
    main()
