"""Checks of cases of environments, paths and files that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

from benchmarks.field.cases import Case, Check, Verdict, right, wrong

_PREVIEW = ("sample", "--preview")
_PICTURES = 24


def _sets(**keys: str) -> list[str]:
    pairs = [("--set", f"{key.replace('__', '.')}={value}") for key, value in keys.items()]
    return list(chain.from_iterable(pairs))


def _parquet(name: str) -> list[str]:
    return _sets(images__path=name, images__format="parquet")


def _refused(name: str, *words: str, more: tuple[str, ...] = ()) -> Callable[[Case], Verdict]:
    """Returns the check that a preview of these files is refused with an error of these words."""

    def of_case(case: Case) -> Verdict:
        return case.toiletspark(*_PREVIEW, *_parquet(name), *more).refusal("images", *words)

    return of_case


def _has_all_pictures(case: Case, *words: str) -> Verdict:
    previewed = case.toiletspark(*_PREVIEW, *words)
    if previewed.code:
        return wrong(previewed.messages[-600:])
    if previewed.summary.get("units") != _PICTURES:
        return wrong(f"the preview has {previewed.summary}")
    return right(f"{_PICTURES} pictures are read")


def _whatever_spark_reads(case: Case) -> Verdict:
    read = _has_all_pictures(case, *_sets(images__path="images.orc", images__format="orc"))
    if read.word == "wrong":
        return read
    named = case.toiletspark(
        *_PREVIEW, *_sets(images__path="", images__table="portal.listing_images")
    )
    refused = named.refusal("portal.listing_images", "cannot be found", "images.table")
    return refused if refused.word == "wrong" else right("ORC is read, a table by its name asked")


def _an_unasked_column(case: Case) -> Verdict:
    return _has_all_pictures(case, *_parquet("images.parquet"))


def _ids_of_bytes(case: Case) -> Verdict:
    embedded = case.toiletspark("embed", *_parquet("images.parquet"), "--set", "output.root=out")
    if embedded.code == 0:
        return wrong("embedded")
    refused = embedded.refusal("image_id is binary")
    return refused if refused.word == "wrong" else _refused("images.parquet", "binary")(case)


def _root_with_signs(name: str, *steps: str) -> Callable[[Case], Verdict]:
    def of_case(case: Case) -> Verdict:
        for step in steps:
            done = case.toiletspark(*step.split(), "--set", f"output.root={name}")
            if done.code:
                return wrong(f"{step}: {done.messages[-600:]}")
        return right(f"{', '.join(steps)} work there")

    return of_case


def _url_that_is_no_text(case: Case) -> Verdict:
    done = case.toiletspark("rescore", *_parquet("images.parquet"))
    if done.code:
        return wrong(f"exit code {done.code}: {done.messages[-600:]}")
    statuses = case.newest("catalog").status.value_counts().to_dict()
    others = _PICTURES - statuses.get("ok", 0)
    return right(f"statuses: {statuses}") if others == 1 else wrong(f"statuses: {statuses}")


def _damaged_inside(case: Case) -> Verdict:
    return case.toiletspark("rescore", *_parquet("images")).refusal("part-1.parquet", "images")


_CONTENT = ("--set", "images.columns.content=content", "--set", "images.columns.image_url=")

CHECKS = [
    Check("09", _refused("images", "_delta_log", 'images.format = "delta"'), False),
    Check("10", _whatever_spark_reads, begins_with_version=False),
    Check("11", _an_unasked_column, begins_with_version=False),
    Check("16", _ids_of_bytes, begins_with_version=False),
    Check("17", _refused("images", "2026.parquet", "image_id", "bigint", "BINARY"), False),
    Check("23", _root_with_signs("out [new]", "embed"), begins_with_version=False),
    Check(
        "24",
        _root_with_signs("portal #1", "sample", "labels import", "embed", "train"),
        begins_with_version=False,
    ),
    Check("28", _refused("images", "_temporary"), begins_with_version=False),
    Check(
        "31",
        _refused(
            "images.parquet",
            "images.columns.content",
            "array<smallint>",
            "binary",
            more=(*_CONTENT, "--set", "images.url_prefix="),
        ),
        begins_with_version=False,
    ),
    Check("32", _url_that_is_no_text, begins_with_version=True),
    Check("33", _damaged_inside, begins_with_version=True),
]
