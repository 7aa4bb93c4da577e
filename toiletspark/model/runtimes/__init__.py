"""What runs the backbone: uint8 pixels (n, crop_px, crop_px, 3) in, float32 embeddings (n, 512) out.

A runtime knows of no file, URL, table or Spark. On the driver, `choose` picks one and `convert` prepares the backbone
for it; a worker imports only the runtime that it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toiletspark.images.decoding import Pixels

RuntimeName = Literal["torch", "openvino"]
Forward = Callable[[Pixels], NDArray[np.float32]]

# of ImageNet's pictures, per channel, with pixels in [0, 1]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
