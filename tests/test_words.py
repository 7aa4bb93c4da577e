"""The words of the code: how docstrings begin, and words that say nothing (docs/style.md)."""

import ast
import itertools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("toiletspark", "training", "jobs")
NOT_FIRST = re.compile(r"(What|Whether|Of|As|Who|Whose|Which|Where|When|How|That)\b")
VAGUE = re.compile(r"\b(told|said|found|place|seen|listed)\b(?!=)")
MOST_VAGUE = 213  # a tenth of those that were there when the rule came


def files(folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    return sorted(itertools.chain(*((ROOT / folder).rglob("*.py") for folder in folders)))


def docstrings(path: Path) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))
    return [text for node in nodes if (text := ast.get_docstring(node))]


def test_docstrings_begin_with_what_the_thing_does_or_is() -> None:
    paths = files((*FOLDERS, "tests", "benchmarks", "release"))
    texts = list(itertools.chain.from_iterable(map(docstrings, paths)))
    riddles = [text.splitlines()[0] for text in texts if NOT_FIRST.match(text)]
    assert len(texts) > 2000
    assert len(riddles) < len(texts) / 100, riddles


def test_vague_words_are_rare() -> None:
    counts = {str(path.relative_to(ROOT)): len(VAGUE.findall(path.read_text())) for path in files()}
    worst = sorted(counts.items(), key=lambda item: -item[1])[:10]
    assert sum(counts.values()) <= MOST_VAGUE, worst


def test_no_file_is_too_long_and_no_folder_too_full() -> None:
    long_files = [
        str(path.relative_to(ROOT)) for path in files() if len(path.read_text().splitlines()) > 430
    ]
    assert long_files == []
    folders = {path.parent for path in files()} - {ROOT / "jobs"}
    full = [
        str(folder.relative_to(ROOT)) for folder in folders if len(list(folder.glob("*.py"))) > 15
    ]
    assert full == []  # fourteen files and the room's __init__
