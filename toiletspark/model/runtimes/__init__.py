"""Runtimes of the backbone: uint8 pixels (n, crop_px, crop_px, 3) in, float32 (n, 512) out.

A runtime knows no file, URL, table or Spark. On the driver, `choice` picks one and `conversion`
compiles the backbone for it; a worker imports only the runtime that it starts.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toiletspark.images.decoding import Pixels

Forward = Callable[[Pixels], NDArray[np.float32]]
