"""Importing does nothing, and some words stand in no file. Who imports whom: `lint-imports`."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def modules(*folders: str) -> list[str]:
    """The installed names of all modules below these folders."""
    files = sorted(itertools.chain(*((ROOT / folder).rglob("*.py") for folder in folders)))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    installed = [
        name if name.startswith("toiletspark") else f"toiletspark.{name}" for name in names
    ]
    return [name.removesuffix(".__init__") for name in installed]


def printed_by(code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_worker_loads_the_runtime_that_it_starts_and_no_other() -> None:
    code = (
        "import sys, toiletspark.model.backbone, toiletspark.images.decoding;"
        "import toiletspark.model.runtimes.openvino_runtime as runtime;"
        "print(sorted({'torch', 'openvino'} & set(sys.modules)));"
        "runtime.import_openvino(); print(sorted({'torch', 'openvino'} & set(sys.modules)))"
    )
    assert printed_by(code) == "[]\n['openvino']\n"


def test_importing_every_module_loads_no_torch_and_no_openvino() -> None:
    """Except modules that compute with them: class folders load torchvision only when read."""
    computing = (
        "runtimes.torch_runtime",
        "runtimes.conversion",
        "runtimes.nvjpeg",
        "model.weights",
        "demo.tour",
    )
    names = [name for name in modules("toiletspark", "jobs") if not name.endswith(computing)]
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(sorted({'torch', 'torchvision', 'openvino', 'nncf'} & set(sys.modules)))"
    )
    assert printed_by(code, *names) == "[]\n"


def test_the_contract_on_imports_holds_and_ignores_none() -> None:
    """The other tests of this file rely on it; `make check` runs it too."""
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# Importing


IMPORTS_ALL = """
import importlib, os, subprocess, sys, threading
started = []
STARTS = "subprocess.Popen os.system os.fork os.posix_spawn os.exec socket.connect".split()
sys.addaudithook(
    lambda event, details: started.append((event, details[:2])) if event in STARTS else None
)
for name in sys.argv[1:]:
    importlib.import_module(name)
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
from pyspark import SparkContext
# ctypes asks ldconfig for libraries
print("started", [entry for entry in started if "ldconfig" not in str(entry)])
print("threads", [thread.name for thread in threading.enumerate()])
print("children", children)
print("jvm", SparkContext._gateway, SparkContext._active_spark_context)
"""


def test_importing_everything_starts_nothing(tmp_path: Path) -> None:
    names = modules("toiletspark", "jobs")
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_ALL, *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "started []\nthreads ['MainThread']\nchildren []\njvm None None\n", (
        done.stderr
    )
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# Files


TEXTS = {
    ".py",
    ".toml",
    ".md",
    ".cfg",
    ".txt",
    ".yml",
    ".yaml",
    ".sh",
    ".j2",
    ".css",
    ".js",
    ".html",
    "",
}


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    return [path for path in paths if path.suffix in TEXTS and path.is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.~}>-])/(?:work/|root/|home/(?!of-ada|\$\{USER\}|ada/)\w)")
    found = []
    for path in set(repository_files()) - {Path(__file__).resolve()}:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, 1):
            if machine.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert found == []
