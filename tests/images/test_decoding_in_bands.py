"""Large pictures become RGB in bands, to save memory; the bands must not show."""

import numpy as np
import pytest
from PIL import Image

from toiletspark.images import decoding


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "I;16", "I"])
def test_tall_pictures_become_rgb_as_they_would_in_one_piece(mode: str) -> None:
    """The deepest level stands in the last band."""
    rng = np.random.default_rng(2)
    noise = Image.fromarray(rng.integers(0, 256, (700, 40, 4), dtype=np.uint8))
    levels = np.full((700, 40), 200, dtype=np.uint16)
    levels[-1, -1] = 65_535
    pictures = {
        "P": noise.convert("RGB").quantize(40),
        "PA": noise.convert("RGB").quantize(40).convert("PA"),
        "I;16": Image.fromarray(levels),
        "I": Image.fromarray(levels.astype(np.int32)),
    }
    image = pictures.get(mode) or noise.convert(mode)
    if mode == "P":
        image.info["transparency"] = bytes(range(0, 200, 5))
    if mode.startswith("I"):
        expected = Image.fromarray((levels / 257.0).astype(np.uint8)).convert("RGB")
    else:
        expected = Image.new("RGBA", image.size, (255, 255, 255, 255))
        expected.alpha_composite(image.convert("RGBA"))
    assert np.array_equal(np.asarray(decoding._rgb(image)), np.asarray(expected.convert("RGB")))
