"""bench-sheet's instruments must see what is there, and what is not."""

from pathlib import Path

from benchmarks import sheet as bench
from toiletspark.reports.contact_sheet import page as contact_sheet


def test_the_benchmark_sees_what_is_there_and_what_is_lost(tmp_path: Path) -> None:
    made = bench.made(120)
    assert (
        len({one.jpeg for one in made.tiles}) > 115
    )  # one of the shared photos stands there twice
    path = tmp_path / f"sheet-{made.sheet_id}.html"
    path.write_bytes(contact_sheet.render(made).encode())
    told = bench.measured(made, path, 1)
    assert (told["labelled"], told["labels_lost"], told["labels_lost_by_reload"]) == (100, 0, 0)
    assert min(told["first_paint_s"], told["first_screen_s"]) > 0
    assert told["scroll_frames"] > 2
    said = {"a": "toilet", "b": "other", "c": "other"}
    found = {"labels": [{"image_id": "a", "class": "toilet"}, {"image_id": "b", "class": "toilet"}]}
    assert bench.labels_lost(found, said) == 2
