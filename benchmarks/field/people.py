"""Checks of cases of words, labels and configuration as people write them."""

from __future__ import annotations

from benchmarks.field.cases import Case, Check, Outcome, Verdict, right, wrong

_NO_TABLE = ("--set", "labels.table.path=")
_OWN_ROOT = ("--set", "output.root=out")


def _listings_that_no_image_meets(case: Case) -> Verdict:
    listings = ("--set", "listings.path=listings.csv")
    ids = ("'L00061'", "'L00061 '", "24 of 24")
    preview = case.toiletspark("sample", "--preview", *listings).refusal(*ids)
    return (
        preview if preview.word == "wrong" else case.toiletspark("sample", *listings).refusal(*ids)
    )


def _words_for_active(case: Case) -> Verdict:
    options = ("--set", "listings.path=listings.csv", "--set", "sample.size=12")
    return case.toiletspark("sample", "--preview", *options).refusal(
        "'ACTIVE' 4", "'INACTIVE' 4", "yes"
    )


def _unknown_format(case: Case) -> Verdict:
    case.toiletspark("rescore", "--set", "images.path=monday.csv")
    formats = ("--set", 'decode.formats=["HEIC","JPEG","PNG","WEBP"]')
    tuesday = ("rescore", "--set", "images.path=tuesday.csv")
    refused = case.toiletspark(*tuesday, *formats).refusal("HEIC", "JPEG", "WEBP", "AVIF")
    mended = case.toiletspark(*tuesday)
    failed = (case.newest("catalog").status != "ok").sum()
    if mended.code or failed:
        return wrong(f"after the mistake was mended: exit code {mended.code}, {failed} not ok")
    return refused


def _index_of_a_spreadsheet(case: Case) -> Verdict:
    options = ("--set", "images.path=images.csv", *_OWN_ROOT, *_NO_TABLE)
    options = (*options, "--set", "labels.folder=labelling")
    case.toiletspark("sample", *options)
    case.toiletspark("labels", "export", *options)
    case.python("spreadsheet.py")
    imported = case.toiletspark("labels", "import", *options)
    if imported.code:
        return imported.refusal("index.csv", "image")
    if "index.csv" not in imported.messages or imported.summary["unknown_images"]:
        return wrong(f"labels of unknown images, or no word: {imported.summary}")
    return right("24 labels of the images that were exported")


def _versions_in_another_spelling(case: Case) -> Verdict:
    columns = ("--set", "images.format=parquet", "--set", "images.columns.image_version=updated")
    outcomes = []
    for day in ("monday", "tuesday"):
        table = ("--set", f"images.path={day}.parquet")
        outcomes.append(case.toiletspark("embed", *table, *columns, *_OWN_ROOT))
    attempted = [outcome.summary.get("attempted") for outcome in outcomes]
    return right("0 attempted") if attempted == [24, 0] else wrong(f"attempted {attempted}")


def _leavings_of_a_file_server(case: Case) -> Verdict:
    imported = case.toiletspark("labels", "import", *_NO_TABLE, "--set", "labels.folder=labelling")
    labels = imported.summary.get("new", 0) + imported.summary.get("unchanged", 0)
    if imported.code or labels != 6:
        return wrong(f"exit code {imported.code}, {labels} labels: {imported.messages[-300:]}")
    return right("6 labels")


def _weights_of_training_programs(case: Case) -> Verdict:
    case.python("make.py")
    outcomes: dict[str, Outcome] = {}
    for name in ("parameters", "compiled", "checkpoint"):
        weights = ("--set", f"backbone.weights={name}.pth")
        outcomes[name] = case.toiletspark("embed", *weights, *_OWN_ROOT)
    if outcomes["parameters"].summary.get("embedded") != 24:
        return wrong(f"parameters: {outcomes['parameters'].messages[-300:]}")
    compiled = outcomes["compiled"].refusal("_orig_mod.", "inside")
    return compiled if compiled.word == "wrong" else outcomes["checkpoint"].refusal("'state_dict'")


def _dates_that_close_the_labels(case: Case) -> Verdict:
    for file in ("labels.json", "label_studio.json"):
        first = case.toiletspark("labels", "import", "--file", file, *_NO_TABLE)
        if first.code:
            return first.refusal(file)
        if first.summary.get("misdated") != 1:
            return wrong(f"{file}: the date was believed: {first.summary}")
    second = case.toiletspark("labels", "import")
    return wrong(second.messages[-300:]) if second.code else right("dates put aside, and counted")


def _labels_of_photos_that_have_left(case: Case) -> Verdict:
    run = case.toiletspark("run", "--set", "images.path=images.csv")
    if run.code:
        return wrong(f"exit code {run.code}: {run.messages[-300:]}")
    images = len(case.newest("decisions"))
    is_told = "labels of images that have left the images table: 4" in run.messages
    return (
        right("20 pictures, 4 labels counted") if images == 20 and is_told else wrong(str(images))
    )


CHECKS = [
    Check("05", _listings_that_no_image_meets, begins_with_version=False),
    Check("06", _words_for_active, begins_with_version=False),
    Check("18", _unknown_format, begins_with_version=True),
    Check("19", _index_of_a_spreadsheet, begins_with_version=False),
    Check("20", _versions_in_another_spelling, begins_with_version=False),
    Check("25", _leavings_of_a_file_server, begins_with_version=False),
    Check("27", _weights_of_training_programs, begins_with_version=False),
    Check("34", _dates_that_close_the_labels, begins_with_version=True),
    Check("37", _labels_of_photos_that_have_left, begins_with_version=True),
]
