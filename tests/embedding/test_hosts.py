"""Hosts that people must look at are named."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from toiletspark.embedding import hosts
from toiletspark.tables import spark_io

COLUMNS = {"host": "string", "status": "string", "content_digest": "string"}


def rows(host: str, images: int, status: str = "ok", digest: str | None = "") -> list[Any]:
    """Attempts; each with a content of its own if the digest is ""."""
    digests = [f"{host} {number}" if digest == "" else digest for number in range(images)]
    return [(host, status, each) for each in digests]


@pytest.fixture(scope="module")
def sentences(spark: SparkSession) -> str:
    attempts = [
        *rows("well", 40),
        *rows("well", 2, "timeout", None),
        *rows("hangs:8080", 6, "timeout", None),
        *rows("mended", 50),
        *rows("mended", 20, "bad_answer", None),
        *rows("placeholder", 30, "ok", "same"),
        *rows("placeholder", 9),
        *rows("shared", 9, "ok", "same"),
        *rows("logo", 12, "ok", "same"),
        *rows("logo", 20),
        *rows("", 99, "timeout", None),
        *rows("", 99, "ok", "same"),
    ]
    return "\n".join(hosts.alarms(spark_io.of_rows(spark, attempts, COLUMNS)))


@pytest.mark.parametrize(
    "sentence",
    [
        "host hangs:8080: of 6 images that were tried 6 did not arrive (timeout)",
        "host mended: of 70 images that were tried 20 were answered with something else",
        "host placeholder: of 39 images that were tried 30 have the same content",
    ],
)
def test_a_host_is_named_with_what_is_amiss(sentences: str, sentence: str) -> None:
    assert sentence in sentences


def test_no_other_host_is(sentences: str) -> None:
    assert len(sentences.splitlines()) == 3
    assert sentences.startswith("host mended")  # the one with most images


def test_no_more_than_ten_are(spark: SparkSession) -> None:
    attempts = [row for number in range(12) for row in rows(f"h{number}", 3, "timeout", None)]
    assert len(hosts.alarms(spark_io.of_rows(spark, attempts, COLUMNS))) == 10
