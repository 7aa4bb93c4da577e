"""CSV tables as people write them: read by RFC 4180, or an error that shows the row or the text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.conftest import literal_config
from toiletspark.errors import TableError
from toiletspark.tables import table_reader

HEADER = "image_id,text,image_url"
WELL_FORMED = {
    'So called "spa", new': '"So called ""spa"", new"',
    "Spa,\nwith a view": '"Spa,\nwith a view"',
    "C:\\": '"C:\\"',
    '5" pipe': '5" pipe',
    "Größe": "Größe",
    # of the file itself, in a column that is not mapped
    "K\ufffdln": "K\ufffdln",
    "KÃ¶ln": "KÃ¶ln",
    "x" * 100_000: "x" * 100_000,
}
BEYOND_ASCII = ("São Paulo", "Ångström", "Żółć", "«CAFÉ»", "Москва", "Ã¶ & ü", "«É» " * 5000)


def read(
    spark: SparkSession, path: Path, options: str = "{}", *, where: str = ""
) -> list[tuple[Any, ...]]:
    sets = {"images.path": path, "images.format": "csv", "images.options": options}
    table = literal_config({**sets, "images.where": where}).images
    frame = table_reader.read_table(spark, table, "images", ["image_id", "image_url"])
    return sorted(tuple(row) for row in frame.collect())


def stopped(spark: SparkSession, path: Path, options: str = "{}", where: str = "") -> TableError:
    with pytest.raises(TableError) as raised:
        read(spark, path, options, where=where)
    assert raised.value.doing == f"reading the images table {path}"
    return raised.value


def written(folder: Path, *files: str | bytes) -> Path:
    folder = folder / "images"
    folder.mkdir()
    for number, content in enumerate(files):
        data = content if isinstance(content, bytes) else content.encode()
        (folder / f"{number}.csv").write_bytes(data)
    return folder


def with_ids(ids: Iterable[str]) -> str:
    return "\n".join([HEADER, *(f"{image_id},,u" for image_id in ids), ""])


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_well_formed_rows_are_read(spark: SparkSession, tmp_path: Path, end: str) -> None:
    lines = [HEADER, *(f"a,{text},u" for text in WELL_FORMED.values()), "b,,v", ""]
    path = written(tmp_path, f"\ufeff{end.join(lines)}")
    wanted = [*sorted(("a", text, "u") for text in WELL_FORMED), ("b", None, "v")]
    assert read(spark, path) == wanted


def test_files_without_names_for_all_columns_are_read(spark: SparkSession, tmp_path: Path) -> None:
    content = ",image_id,image_url,image_url\n0,a,u,v\n"
    assert read(spark, written(tmp_path, content, content)) == [("0", "a", "u", "v")] * 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,So called, spa,u\nb,,v\n", ["1 rows", "'a,So called, spa,u' with 4", "'image_url'"]),
        ("a,text\nb,,v\n", ["'a,text' with 2 fields", "none for 'image_url'"]),
        (
            'a,"text,u\n' + "b,,v\n" * 50_000,
            ["'a,\"text,u b,,v b,,v", "with 2 fields", "image_url"],
        ),
        ("a,,u\rb,,v\rb,,v,w\n", ["'a,,u b,,v b,,v,w' with 8 fields"]),
    ],
    ids=["too many", "too few", "open quote", "other line ends"],
)
def test_a_row_that_does_not_fit_its_header_is_shown(
    spark: SparkSession, tmp_path: Path, content: str, words: list[str]
) -> None:
    """Also where a condition would hide it."""
    error = stopped(spark, written(tmp_path, f"{HEADER}\n{content}"), where="image_id = 'b'")
    assert error.expected.startswith("rows of 3 fields, as the header has: 'image_id', 'text'")
    assert [word for word in words if word not in error.found] == []
    assert 'images.options, as in { sep = ";" }' in error.todo


def test_rows_as_they_fall_are_the_users_own_wish(spark: SparkSession, tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\na,text\n")
    assert read(spark, path, '{ Mode = "PERMISSIVE" }') == [("a", "text", None)]


def test_quotes_as_spark_writes_them_and_another_separator(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = written(tmp_path, f'{HEADER}\na,"a \\"b\\" c",u\n'.replace(",", "\t"))
    error = stopped(spark, path, '{ sep = "\\t" }')
    assert error.found == "a single quote after 'a \\\\'"
    assert "{ escape = '\\' }" in error.todo
    options = "{ sep = \"\\t\", escape = '\\' }"
    assert read(spark, path, options) == [("a", 'a "b" c', "u")]


def test_a_table_without_text(spark: SparkSession, tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\n1,2,3\n")
    assert read(spark, path, '{ inferSchema = "true" }') == [(1, 2, 3)]


def test_files_with_other_headers_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    other = "image_id,image_url,text\nb,v,\n"
    error = stopped(spark, written(tmp_path, f"{HEADER}\na,,u\n", other, f"{HEADER}\nc,,u\n"))
    assert error.expected.startswith("one header in all files")
    assert "the header 'image_id, " in error.found


@pytest.mark.parametrize(
    ("encoding", "column", "text"),
    [("ISO-8859-1", "image_id", "Köln"), ("cp1256", "text", "بيت"), ("shift_jis", "text", "東京")],
)
def test_other_encodings_are_refused_and_read_by_their_name(
    spark: SparkSession, tmp_path: Path, encoding: str, column: str, text: str
) -> None:
    """Also in a column that is not mapped: the feed hands it on."""
    values = {"image_id": "a", "text": "", "image_url": "u"} | {column: text}
    path = written(tmp_path, f"{HEADER}\n{','.join(values.values())}\n".encode(encoding))
    error = stopped(spark, path)
    assert error.expected == "text in UTF-8"
    assert error.found.endswith(f"' in the column '{column}'") and "\ufffd" in error.found
    assert error.todo.startswith('set images.options = { encoding = "ISO-8859-1" }, or to ')
    assert text in read(spark, path, f'{{ encoding = "{encoding}" }}')[0]


def test_utf16_is_refused_by_its_header(spark: SparkSession, tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\na,Köln,u\n".encode("utf-16"))
    assert stopped(spark, path).found.endswith("as a column's name")
    assert read(spark, path, '{ encoding = "UTF-16" }') == [("a", "Köln", "u")]


@pytest.mark.parametrize("text", ["K\ufffdln", "StraÃŸe"])
def test_garbled_text_in_a_mapped_column_is_refused(
    spark: SparkSession, tmp_path: Path, text: str
) -> None:
    error = stopped(spark, written(tmp_path, with_ids(["a", text])))
    assert error.found == f"'{text}' in the column 'image_id'"
    assert ('"UTF-8"' in error.todo) == ("\ufffd" not in text)


def test_text_beyond_ascii_is_not_refused(spark: SparkSession, tmp_path: Path) -> None:
    ids = [row[0] for row in read(spark, written(tmp_path, with_ids(BEYOND_ASCII)))]
    assert ids == sorted(BEYOND_ASCII)


def test_utf8_under_the_name_of_another_encoding(spark: SparkSession, tmp_path: Path) -> None:
    error = stopped(spark, written(tmp_path, with_ids(["Köln"])), '{ encoding = "ISO-8859-1" }')
    assert "KÃ¶ln" in error.found
    error = stopped(spark, tmp_path / "images", '{ encoding = "nobodys" }')
    assert error.todo == "check images.path and images.format, and images.options"


def test_lines_that_end_in_two_ways(spark: SparkSession, tmp_path: Path) -> None:
    path = written(tmp_path, f"{HEADER}\na,,u\r\n")
    assert stopped(spark, path).found == "a carriage return at the end of 'u'"
    assert read(spark, path, '{ multiLine = "false" }') == [("a", None, "u")]


def test_the_values_of_folder_names(spark: SparkSession, tmp_path: Path) -> None:
    """As pandas writes them (UTF-8, percent-encoded), and as Spark does; folders are pruned."""
    names = {"K%C3%B6ln": "Köln", "Bonn": "Bonn", "00123": "00123", "2026-01-02": "2026-01-02"}
    names |= {"D%C3%BCren%2FWest": "Düren/West", "Genève": "Genève", "%E5%8C%97": "北"}
    path = tmp_path / "images"
    for folder in names:
        part = path / f"a`city={folder}"
        part.mkdir(parents=True)
        (part / "0.csv").write_text("image_id\nx\n", encoding="utf-8")
    assert read(spark, path) == sorted(("x", city) for city in names.values())
    assert read(spark, path, where="`a``city` = 'Köln'") == [("x", "Köln")]
