"""Who may import whom, read from the source; and what importing does, which is nothing."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# lowest first; a module may import its own layer and those above it in this list
LAYERS: list[set[str]] = [
    {"__init__", "errors", "digests", "floors"},
    {
        "allowed",
        *("storage", "tables", "config", "conf_files", "thresholds", "runs", "rows", "progress", "command"),
        *("lookalikes", "allocation", "estimates", "policies", "versions", "version_entry", "draws", "csv_text"),
        *("audits", "chance", "drift", "change_audits"),
    },
    {
        *(
            "images",
            "decoding",
            "sources",
            "backbone",
            "runtimes",
            "weights",
            "quantisation",
            "prepared",
            "contents",
            "attempts",
            "labels",
        ),
        *("trainer", "class_folders", "label_files", "label_studio", "inclusion", "golden", "bundle", "head"),
        *("views", "held_out", "override_rules", "leaks", "rollback", "retention", "canaries", "source_audits"),
        "scored_files",
    },
    {
        *("session", "frames", "catalog", "ledger", "strata", "sampling", "label_table", "plans", "embedding"),
        *("commits", "spark_settings"),
        *(
            "calibration",
            "scoring",
            "scores",
            "whereabouts",
            "exclusions",
            "feed",
            "training_set",
            "design_weights",
            "thumbnails",
            "entry",
            "reports",
        ),
        *("asked", "suggestion", "refusals", "golden_set", "training_images", "training_views"),
        *("decisions", "figures", "publication", "origins", "overrides", "leak_sample", "approvals"),
        *("best_images", "alerts", "catalog_table", "doctor"),
    },
    {"jobs"},
    {"cli", "cli_publish", "demo"},
]
NAMES = ["errors", "config", "images", "Spark", "jobs", "cli"]
SPARK_LAYER = 3
TORCH = {"torch", "torchvision"}
TORCH_USERS = {
    *("toiletspark.weights", "toiletspark.runtimes.torch_runtime", "toiletspark.runtimes.convert"),
    "toiletspark.runtimes.nvjpeg",
    "toiletspark.class_folders",  # when it reads class folders, not before
}
OPENVINO = {"openvino", "nncf"}
OPENVINO_USERS = {"toiletspark.runtimes.openvino_runtime", "toiletspark.runtimes.convert", "toiletspark.quantisation"}
RUNTIMES = [
    *("backbone", "runtimes", "runtimes.choose", "runtimes.torch_runtime", "runtimes.nvjpeg"),
    "runtimes.openvino_runtime",
]
LABELLING = ["labels", "class_folders", "label_files", "label_studio", "lookalikes", "inclusion"]
PACKAGES = ("toiletspark", "jobs", "training")


def sources(*packages: str) -> dict[str, Path]:
    """Every module of our own by its dotted name."""
    files = (path for package in packages for path in (ROOT / package).rglob("*.py"))
    named = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(files)}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


OURS = sources(*PACKAGES)


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """The full names of what a file imports; those for type checkers only are left out.

    Args:
        path: the file.
        lazy: whether imports inside functions count.
    """
    found: set[str] = set()
    for node in walk(ast.parse(path.read_text(encoding="utf-8")), lazy):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in OURS else str(node.module))
    return found


def walk(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if not lazy and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield child
        yield from walk(child, lazy)


def layer(module: str) -> int:
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0] or "__init__"
    name = part if package == "toiletspark" else package
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(
        f"{module} stands in no layer: add '{name}' to LAYERS in {Path(__file__).name}, in the lowest layer that has "
        "all it imports, and tell in ARCHITECTURE.md what it is for"
    )


def tops(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def ours(*packages: str) -> list[str]:
    return [name for name in OURS if name.partition(".")[0] in packages]


# The test itself


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nimport a.b, c as d\nfrom toiletspark import runs, __version__\n"
        "from toiletspark.head import Head\nif TYPE_CHECKING:\n    import hidden\n"
        "def f():\n    import lazy\n    from jobs import run_chain\nclass C:\n    import inner\n"
        "try:\n    import tried\nexcept ImportError:\n    pass\n"
    )
    eager = {"typing", "a.b", "c", "toiletspark.runs", "toiletspark", "toiletspark.head", "inner", "tried"}
    assert imports(file, lazy=False) == eager
    assert imports(file) == eager | {"lazy", "jobs.run_chain"}


def test_a_module_without_a_layer_is_told_what_to_do() -> None:
    with pytest.raises(AssertionError, match=r"toiletspark\.shiny stands in no layer: add 'shiny' to LAYERS"):
        layer("toiletspark.shiny")


# Directions


@pytest.mark.parametrize("module", ours("toiletspark", "jobs"))
def test_a_module_imports_only_downwards(module: str) -> None:
    for name in imports(OURS[module]):
        if name in OURS and not name.startswith("training"):
            above = f"{module} ({NAMES[layer(module)]}) must not import {name} ({NAMES[layer(name)]})"
            assert layer(name) <= layer(module), above


def test_no_layer_names_a_module_that_is_gone() -> None:
    there = {name.split(".")[1] for name in ours("toiletspark") if "." in name} | {"__init__", "jobs"}
    assert set().union(*LAYERS) == there
    assert sum(len(names) for names in LAYERS) == len(there)


@pytest.mark.parametrize("module", ours("toiletspark"))
def test_only_the_command_line_knows_the_jobs_and_nobody_the_trainer(module: str) -> None:
    foreign = tops(imports(OURS[module]))
    assert "training" not in foreign
    assert "jobs" not in foreign or module == "toiletspark.cli"


@pytest.mark.parametrize("module", ours("jobs"))
def test_a_job_knows_neither_the_trainer_nor_the_demo_nor_torch(module: str) -> None:
    found = imports(OURS[module])
    assert not tops(found) & {"training", *TORCH}
    assert not [name for name in found if name.startswith(("toiletspark.demo", "toiletspark.cli"))]


@pytest.mark.parametrize("module", ours("toiletspark"))
def test_spark_begins_at_its_layer(module: str) -> None:
    if layer(module) < SPARK_LAYER:
        assert not tops(imports(OURS[module])) & {"pyspark", "py4j"}


@pytest.mark.parametrize("module", ours("toiletspark"))
def test_torch_is_known_to_weights_and_runtimes_alone(module: str) -> None:
    if module not in TORCH_USERS:
        assert not tops(imports(OURS[module])) & TORCH


@pytest.mark.parametrize("module", ours("toiletspark", "jobs", "training"))
def test_openvino_is_an_extra_that_is_imported_where_it_is_used(module: str) -> None:
    assert not tops(imports(OURS[module], lazy=False)) & OPENVINO
    if module not in OPENVINO_USERS:
        assert not tops(imports(OURS[module])) & OPENVINO


def test_a_worker_loads_the_runtime_that_it_starts_and_no_other() -> None:
    code = (
        "import sys, toiletspark.backbone, toiletspark.images, toiletspark.runtimes.openvino_runtime as runtime;"
        "print(sorted({'torch', 'openvino'} & set(sys.modules)));"
        "runtime.imported(); print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n['openvino']\n"


def test_labels_import_torchvision_only_when_they_read_folders() -> None:
    assert not tops(imports(OURS["toiletspark.class_folders"], lazy=False)) & TORCH
    assert "torchvision" in tops(imports(OURS["toiletspark.class_folders"]))


def closure(modules: list[str]) -> set[str]:
    """Everything that is imported, directly or through modules of ours, when these are."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(imports(OURS[name]) if name in OURS else [])
    return seen


def test_training_reaches_no_spark_not_even_through_others() -> None:
    reached = closure(ours("training"))
    assert "toiletspark.runs" in reached
    assert not tops(reached) & {"pyspark", "py4j", "jobs"}


@pytest.mark.parametrize("module", list(OURS))
def test_petastorm_is_known_to_one_file(module: str) -> None:
    assert ("petastorm" in tops(imports(OURS[module]))) == (module == "training.dataset")


@pytest.mark.parametrize(
    "module",
    [
        *("images", *RUNTIMES, "weights", "quantisation", "sources", "head", "held_out", "versions", "leaks"),
        *("rollback", "retention", "doctor.checks", "doctor.submit_line", *LABELLING),
    ],
)
def test_the_domain_knows_nothing_of_spark_even_through_others(module: str) -> None:
    assert "pyspark" not in tops(closure([f"toiletspark.{module}"]))


@pytest.mark.parametrize("module", ["images", *RUNTIMES, "runtimes.convert"])
def test_decoding_and_the_runtime_know_neither_urls_nor_tables(module: str) -> None:
    found = imports(OURS[f"toiletspark.{module}"])
    assert not found & {
        "toiletspark.sources",
        "toiletspark.storage",
        "toiletspark.tables",
        "toiletspark.runs",
        "fsspec",
    }


# Importing


IMPORTS_ALL = """
import importlib, os, subprocess, sys, threading
started = []
sys.addaudithook(
    lambda event, details: started.append((event, details[:2]))
    if event in ("subprocess.Popen", "os.system", "os.fork", "os.posix_spawn", "os.exec", "socket.connect")
    else None
)
for name in sys.argv[1:]:
    importlib.import_module(name)
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
from pyspark import SparkContext
print("started", [entry for entry in started if "ldconfig" not in str(entry)])  # ctypes asks it for libraries
print("threads", [thread.name for thread in threading.enumerate()])
print("children", children)
print("jvm", SparkContext._gateway, SparkContext._active_spark_context)
"""


def test_importing_everything_starts_nothing(tmp_path: Path) -> None:
    names = ours("toiletspark", "jobs")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_ALL, *names], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "started []\nthreads ['MainThread']\nchildren []\njvm None None\n", done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_the_help_is_shown_without_spark_and_torch() -> None:
    code = "import sys, toiletspark.cli; print(sorted({'pyspark', 'torch', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# Files


TEXTS = {".py", ".toml", ".md", ".cfg", ".txt", ".yml", ".yaml", ".sh", ".j2", ".css", ".js", ".html", ""}


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in TEXTS and path.is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.~}>-])/(?:work/|root/|home/(?!of-ada|\$\{USER\}|ada/)\w)")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in repository_files()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if machine.search(line)
    ]
    assert found == []
