"""What runs the backbone: uint8 pixels (n, crop_px, crop_px, 3) in, float32 embeddings (n, 512) out.

A runtime knows of no file, URL, table or Spark. On the driver, `choose` picks one and `convert` prepares the backbone
for it; a worker imports only the runtime that it starts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toiletspark.images.decoding import Pixels

Forward = Callable[[Pixels], NDArray[np.float32]]
