"""Errors: four parts, an exit code each, and hints that name what was meant."""

import pytest

from toiletspark import errors
from toiletspark.errors import AuditError, ToiletsparkError, UserError, nearest, shown

PARTS = {"doing": "reading a", "expected": "b", "found": "c", "todo": "do d"}
USER_ERRORS = [
    "ConfigError",
    "TableError",
    "LabelsError",
    "BackboneError",
    "HeadError",
    "OutputError",
]


def test_a_message_has_four_parts_in_this_layout() -> None:
    assert (
        str(UserError(**PARTS)) == "while reading a\n  expected: b\n  found:    c\n  do:       do d"
    )


def test_the_parts_can_be_read_one_by_one() -> None:
    error = ToiletsparkError(**PARTS)
    assert {name: getattr(error, name) for name in PARTS} == PARTS


@pytest.mark.parametrize("part", PARTS)
def test_no_part_can_be_left_out(part: str) -> None:
    with pytest.raises(TypeError, match=part):
        UserError(**{name: text for name, text in PARTS.items() if name != part})


@pytest.mark.parametrize("name", USER_ERRORS)
def test_a_users_mistake_ends_with_exit_code_2(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, UserError)
    assert kind(**PARTS).exit_code == 2


def test_other_errors_have_exit_codes_of_their_own() -> None:
    assert (ToiletsparkError(**PARTS).exit_code, AuditError(**PARTS).exit_code) == (1, 3)
    assert not issubclass(AuditError, UserError)


@pytest.mark.parametrize(
    ("names", "limit", "text"),
    [
        ([], 5, ""),
        (["a"], 5, "'a'"),
        (["a", "b"], 2, "'a', 'b'"),
        (["a", "b", "c"], 2, "'a', 'b' and 1 more"),
        (iter(["a", 7, None]), 5, "'a', 7, None"),
        (["it's\n"], 5, '"it\'s\\n"'),
    ],
)
def test_names_are_shown_in_quotes_and_the_rest_counted(
    names: list[object], limit: int, text: str
) -> None:
    assert shown(names, limit) == text


@pytest.mark.parametrize(
    ("word", "known", "text"),
    [
        ("treshold", ["threshold", "seed"], " (did you mean 'threshold'?)"),
        (
            "publish.treshold",
            ["publish.operating_threshold", "train"],
            " (did you mean 'publish.operating_threshold'?)",
        ),
        ("xyz", ["threshold", "seed"], ""),
        ("a", [], ""),
    ],
)
def test_the_nearest_name_is_offered_when_one_is_near(
    word: str, known: list[str], text: str
) -> None:
    assert nearest(word, iter(known)) == text
