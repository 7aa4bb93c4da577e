"""README.md, ARCHITECTURE.md and docs/: short, up to date, and they name only what exists."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from release import documentation
from tests.conftest import REPOSITORY
from toiletspark.config import Config
from toiletspark.config.loading import base_text, known_keys, load
from toiletspark.jobs.cli import app

SHORT = ("README.md", "ARCHITECTURE.md")
MAX_LINES, MAX_BYTES = 150, 9000
PAGES = [*(REPOSITORY / name for name in SHORT), *sorted((REPOSITORY / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
ROOMS = "|".join(path.name for path in (REPOSITORY / "toiletspark").iterdir() if path.is_dir())
# keys of these tables are the user's own
FREE_TABLES = ("fetch.storage_options.", "spark.", "sample.strata.")
# figures keep the command that measured them, also when it has been removed
KEEPS_OLD_COMMANDS = "docs/figures.md"


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def prose_of(name: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text_of(name), flags=re.MULTILINE | re.DOTALL)


def code_of(name: str) -> str:
    """Code blocks and inline code of a page, one piece per line."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text_of(name), re.MULTILINE | re.DOTALL)
    joined = [block.replace("\\\n", " ") for block in blocks]
    return "\n".join([*joined, *re.findall(r"`([^`\n]+)`", prose_of(name))])


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


# Size


@pytest.mark.parametrize("name", SHORT)
def test_the_first_two_pages_are_short(name: str) -> None:
    text = text_of(name)
    assert len(text.splitlines()) <= MAX_LINES
    assert len(text.encode()) <= MAX_BYTES


def test_the_picture_of_readme_is_small() -> None:
    picture = REPOSITORY / "docs" / "pictures" / "run-page.png"
    assert 10_000 < picture.stat().st_size <= 200_000
    assert "docs/pictures/run-page.png" in text_of("README.md")


def test_the_configuration_of_readme_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", text_of("README.md"), re.M | re.S)
    file = tmp_path / "mytables.toml"
    file.write_text(block, encoding="utf-8")
    assert load([file]).images.columns.image_id == "photo_key"
    assert len(block.splitlines()) <= 10


# Made from the code


@pytest.mark.parametrize("name", sorted(documentation.PAGES))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    committed = text_of(f"docs/{name}")
    assert committed == documentation.PAGES[name](), f"docs/{name} is out of date: run `make docs`"


def test_every_key_has_a_unit_and_an_effect() -> None:
    sections = documentation.read_sections(base_text())
    keys = list(
        itertools.chain(*(itertools.product([section.name], section.keys) for section in sections))
    )
    assert [f"{section}.{key.name}" for section, key in keys if not (key.unit and key.effect)] == []


def test_the_page_of_the_configuration_has_every_key_with_its_default() -> None:
    values = tomllib.loads(base_text())
    sections = documentation.read_sections(base_text())
    for section in sections:
        defaults = values
        for part in section.name.split("."):
            defaults = defaults[part]
        for key in section.keys:
            assert tomllib.loads(f"value = {key.default}")["value"] == defaults.pop(key.name)
    nested = {key for key in known_keys() if key in {section.name for section in sections}}
    assert nested == {section.name for section in sections}
    left = [key for key, value in values.items() if not only_tables(value)]
    assert left == []


def only_tables(value: object) -> bool:
    return isinstance(value, dict) and all(only_tables(item) for item in value.values())


# What pages name


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    page = REPOSITORY / name
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose_of(name)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_page_names_exist(name: str) -> None:
    paths = re.findall(
        rf"(?<![\w/.])((?:toiletspark|tests|release|benchmarks|docs|{ROOMS})/[\w/.-]*\w)",
        text_of(name),
    )
    bases = (REPOSITORY, REPOSITORY / "toiletspark")
    endings = (".py", ".md", ".toml", ".cron", ".png")
    named = [path for path in paths if path.endswith(endings) and "mytables.toml" not in path]
    missing = [path for path in named if not any((base / path).exists() for base in bases)]
    if name == KEEPS_OLD_COMMANDS:
        missing = [path for path in missing if not path.startswith("benchmarks/")]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_a_page_names_exist(name: str) -> None:
    sections = "|".join(Config.model_fields)
    keys = re.findall(rf"^(?:--set )?((?:{sections})(?:\.\w+)+)(?: ?=.*)?$", code_of(name), re.M)
    known = set(known_keys())
    endings = (".md", ".toml", ".py", ".json")
    strange = {key for key in keys if key not in known and not key.endswith(endings)}
    assert [key for key in sorted(strange) if not key.startswith(FREE_TABLES)] == []


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_that_a_page_names_exist(name: str) -> None:
    if name == KEEPS_OLD_COMMANDS:
        return
    targets = set(re.findall(r"^([a-z0-9-]+):", text_of("Makefile"), re.MULTILINE))
    assert (
        set(re.findall(r"^make ([a-z0-9-]+)(?![a-z0-9.-])", code_of(name), re.M)) - targets == set()
    )


def commands(name: str) -> Iterator[list[str]]:
    """The words of each `toiletspark ...` command of a page."""
    pattern = r"^(?:\.venv/bin/)?toiletspark(?: [^\n#]*)?$"
    for line in re.findall(pattern, re.sub(r"\s+#.*$", "", code_of(name), flags=re.M), re.M):
        yield shlex.split(line)[1:]


def problem_of(words: list[str]) -> str:
    """The first word of a command that does not exist; "" if all do."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[0]
        command, words = command.commands[words[0]], words[1:]
    known = {"--help"}.union(*(parameter.opts for parameter in command.params))
    unknown = [word for word in words if re.match(r"--\w", word)]
    return next((word for word in unknown if word.partition("=")[0] not in known), "")


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_a_page_names_exist(name: str) -> None:
    wrong = [" ".join(words) for words in commands(name) if problem_of(words)]
    assert wrong == []


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert problem_of(["publsh"]) == "publsh"
    assert problem_of(["labels", "inport"]) == "inport"
    assert problem_of(["sample", "--previw"]) == "--previw"
    assert problem_of(["labels", "import", "--file", "labels.json", "--conf", "a.toml"]) == ""
