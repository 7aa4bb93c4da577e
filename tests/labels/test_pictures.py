"""A file of a plain folder labels the image of its content, else of its name, else a picture."""

import pytest

from toiletspark.labels.image_folder import LabelledFile
from toiletspark.labels.merge import Label
from toiletspark.labels.pictures import Known

KNOWN = Known(
    by_content={"d1": ["H2", "H1"], "d2": ["H4", "H3"], "d3": ["H5"]},
    names={"H1", "H7", "x.jpg"},
    labelled={"d2": ["H4"], "d3": ["picture d3"], "d6": ["H6"], "d7": ["picture d7"]},
)


@pytest.mark.parametrize(
    ("path", "digest", "image_id", "of_content"),
    [
        ("a.jpg", "d1", "H1", "d1"),
        ("H7.jpg", "d1", "H1", "d1"),  # the content says more than the name
        ("a.jpg", "d2", "H4", "d2"),  # it has a label already
        ("a.jpg", "d3", "H5", "d3"),  # it was a picture until the catalog had it
        ("deep/er/H7.png", "d9", "H7", None),
        ("x.jpg", "d9", "x.jpg", None),
        ("H7.jpg", "d7", "H7", None),
        ("H6.jpg", "d6", "H6", "d6"),  # the catalog has it no more
        ("a.jpg", "d7", "picture d7", "d7"),
        ("a.jpg", "d9", "picture d9", "d9"),
    ],
)
def test_whom_a_file_labels(path: str, digest: str, image_id: str, of_content: str | None) -> None:
    label = KNOWN.label(LabelledFile(f"toilet/{path}", "toilet", digest))
    assert label == Label(image_id, "toilet", of_content, "image_folder")
