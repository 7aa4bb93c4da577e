"""(f) A plain iterator pandas UDF with OpenVINO and decoding at a reduced scale; one form only.

What a careful person writes by hand: no child process for decoding, no statuses, no deduplication.
The network is converted once on the driver, before the race; its seconds are given beside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import lane as lanes
import numpy as np
import openvino as ov
import pandas as pd
import spark as sparks
import torch
from PIL import Image
from pyspark.sql.functions import col, pandas_udf

ROWS = 8
CROP_PX = 224
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def convert(lane: lanes.Lane) -> str:
    """Writes the network as OpenVINO's; returns the file."""
    file = f"{lane.out}.xml"
    with torch.inference_mode():
        example = torch.zeros(ROWS, 3, CROP_PX, CROP_PX)
        network = ov.convert_model(lane.network(lanes.load(lane.state)), example_input=example)
    network.reshape([ROWS, 3, CROP_PX, CROP_PX])
    ov.save_model(network, file, compress_to_fp16=False)
    return file


def pixels(path: str) -> np.ndarray:
    """One image, resized and cropped in one step: uint8, (224, 224, 3)."""
    with Image.open(path) as image:
        image.draft("RGB", (lanes.RESIZE_PX, lanes.RESIZE_PX))
        image = image.convert("RGB")
        scale = lanes.RESIZE_PX / min(image.size)
        width, height = (max(lanes.RESIZE_PX, round(side * scale)) for side in image.size)
        left = (width - CROP_PX) / 2 / scale
        top = (height - CROP_PX) / 2 / scale
        box = (left, top, left + CROP_PX / scale, top + CROP_PX / scale)
        return np.asarray(image.resize((CROP_PX, CROP_PX), Image.Resampling.BILINEAR, box=box))


def main() -> None:
    """Table to scores; timed from the plan on."""
    lane = lanes.given()
    started = time.monotonic()
    file = convert(lane)
    conversion_s = round(time.monotonic() - started, 2)
    session = sparks.session(lane)

    @pandas_udf("float")
    def score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        request = ov.Core().compile_model(file, "CPU", settings).create_infer_request()
        batch = np.zeros((ROWS, CROP_PX, CROP_PX, 3), np.uint8)
        for paths in batches:
            scores: list[float] = []
            for start in range(0, len(paths), ROWS):
                part = paths.iloc[start : start + ROWS]
                for number, path in enumerate(part):
                    batch[number] = pixels(path)
                normal = ((batch.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
                logits = request.infer([np.ascontiguousarray(normal)])[0][: len(part)]
                scores += torch.from_numpy(logits.copy()).softmax(dim=1)[:, 0].tolist()
            yield pd.Series(scores)

    def race() -> None:
        sparks.write(sparks.images(session, lane), score(col("image_url")), lane)

    lanes.run(race, "pyspark", "openvino", "pandas", "pyarrow", conversion_s=conversion_s)


if __name__ == "__main__":
    main()
