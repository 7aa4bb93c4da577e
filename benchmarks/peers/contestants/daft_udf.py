"""(e) Daft: its own `download` and `decode_image`; transform and network as a batch class UDF.

The form: Daft's published image classification benchmark
(https://github.com/Eventual-Inc/Daft/blob/main/benchmarking/ai/image_classification/daft_main.py)
and its page on class UDFs (https://docs.daft.ai/en/stable/custom-code/cls/). The best form opens
the files inside the UDF, because Daft's own decoder has no reduced scale.
"""

from __future__ import annotations

import daft
import lane as lanes
import torch
from PIL import Image


class Scorer:
    """One process a core: network built once, then batches.

    Daft bounds no threads: left alone, each process's torch would take every core. Processes,
    because in threads the transform would wait for Python's lock.
    """

    def __init__(self, lane: lanes.Lane) -> None:
        torch.set_num_threads(1)
        self._lane = lane
        self._network = lane.network(lanes.load(lane.state))

    @daft.method.batch(return_dtype=daft.DataType.float32(), batch_size=lanes.DOCUMENTED_ROWS)
    def score(self, images: daft.Series) -> list[float]:
        """Decoded images, uint8, (height, width, 3), to exclusion scores."""
        pixels = [lanes.TRANSFORM(Image.fromarray(image)) for image in images.to_pylist()]
        return self._lane.scores(self._network, torch.stack(pixels)).tolist()

    @daft.method.batch(return_dtype=daft.DataType.float32(), batch_size=lanes.BEST_ROWS)
    def score_files(self, paths: daft.Series) -> list[float]:
        """Paths of image files to exclusion scores."""
        pixels = [self._lane.opened(path) for path in paths.to_pylist()]
        return self._lane.scores(self._network, torch.stack(pixels)).tolist()


def main() -> None:
    """Table to scores; timed from the plan on."""
    lane = lanes.given()
    daft.set_runner_native(num_threads=lane.workers)
    daft.from_pydict({"one": [1]}).collect()

    def race() -> None:
        images = daft.read_parquet(f"{lane.table}/*.parquet")
        scorer = daft.cls(max_concurrency=lane.workers, use_process=True)(Scorer)(lane)
        if lane.best:
            score = scorer.score_files(images["image_url"])
        else:
            score = scorer.score(images["image_url"].download().decode_image(mode="RGB"))
        images.select("image_id", score.alias("exclusion_score")).write_parquet(lane.out)

    lanes.run(race, "daft", "pyarrow")


if __name__ == "__main__":
    main()
