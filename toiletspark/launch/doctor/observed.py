"""What was seen of a cluster: plain values, so that they can also be written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from toiletspark.config import Config
from toiletspark.launch import settings as spark_settings

# What is looked for: the name to import, and the package's
PACKAGES: list[tuple[str, str]] = [
    *(
        ("toiletspark", "toiletspark"),
        ("pyspark", "pyspark"),
        ("numpy", "numpy"),
        ("pandas", "pandas"),
    ),
    *(
        ("pyarrow", "pyarrow"),
        ("PIL", "Pillow"),
        ("torch", "torch"),
        ("torchvision", "torchvision"),
    ),
    *(
        ("openvino", "openvino"),
        ("safetensors", "safetensors"),
        ("fsspec", "fsspec"),
        ("pydantic", "pydantic"),
    ),
    ("tenacity", "tenacity"),
]


@dataclass(frozen=True)
class Package:
    """`version` is "" where it is missing; `error` tells why it does not load, "" where it does."""

    version: str
    error: str = ""


@dataclass(frozen=True)
class Place:
    """Where Python works: the driver, or one executor with its Python workers.

    Attributes:
        name: "driver", "executor 3".
        host: its machine.
        python: the path of its interpreter.
        python_version: as in 3.11.2.
        packages: by the name to import.
        cpus: that it may use.
        cpu_flags: by the kernel's names.
        cores: that Spark gives this executor.
        threads: OMP_NUM_THREADS of a Python worker; None: not set.
        memory_bytes: of its machine or container; 0: not known.
        free_bytes: of the folders where Spark puts shuffles and what does not fit into memory.
        clock_off_s: its clock is at least so far from the driver's; 0 where they agree as far as can be seen.
        gpus: that its machine has.
    """

    name: str
    host: str
    python: str
    python_version: str
    packages: Mapping[str, Package]
    cpus: int
    cpu_flags: frozenset[str]
    cores: int
    threads: int | None
    memory_bytes: int
    free_bytes: Mapping[str, int]
    clock_off_s: float = 0.0
    gpus: int = 0

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


@dataclass(frozen=True)
class StartedPython:
    """What came of starting the workers' Python on a machine, seen without Python: a version, or an error."""

    host: str
    version: str
    error: str = ""


@dataclass(frozen=True)
class Host:
    """An image host, as seen from all who asked it. `statuses`: how often which status, with its detail."""

    name: str
    asked: int
    statuses: Mapping[tuple[str, str], int]
    failed_at: tuple[str, ...] = ()

    def count(self, *statuses: str) -> int:
        """How many of what was asked ended in one of these statuses."""
        return sum(number for (status, _), number in self.statuses.items() if status in statuses)


@dataclass(frozen=True)
class Images:
    """A few images of the catalog.

    Attributes:
        looked_at: whether there was a table to look at.
        error: why it could not be read.
        inline: their bytes stand in the table.
        median_bytes: of those whose bytes were had; None: of none.
        hosts: where they come from.
        from_executors: False where only the driver could ask, because the executors lack toiletspark.
    """

    looked_at: bool = False
    error: str = ""
    inline: bool = False
    median_bytes: int | None = None
    hosts: tuple[Host, ...] = ()
    from_executors: bool = True


@dataclass(frozen=True)
class Output:
    """What the output root does when it is written to.

    Attributes:
        foreign: something in it that toiletspark did not make; it was then not touched.
        driver_error: why the driver cannot write.
        executors_error: why Spark cannot write.
        workers_error: why Python on the executors cannot write, where Spark can.
        unseen_files: files that executors have written and the driver does not see.
        winners: of each name that several tried to take at once, how many were told that they had it.
        stale_reads: how often an old content was read after a new one had been put in place.
        unlisted: how many files were not listed right after they had been written.
    """

    foreign: str = ""
    driver_error: str = ""
    executors_error: str = ""
    workers_error: str = ""
    unseen_files: int = 0
    winners: tuple[int, ...] = ()
    stale_reads: int = 0
    unlisted: int = 0


@dataclass(frozen=True)
class Observed:
    """All that the checks are given.

    Attributes:
        config: the configuration that jobs would have.
        settings: Spark's, as far as somebody has set them.
        master: Spark's master URL.
        python_asked: what executors were told to start.
        python_named: whether somebody has said so, and it is not just the driver's.
        driver: where this runs.
        executors: those that answered.
        known: how many executors Spark knows.
        pythons: the workers' Python, started on each machine.
        runtime: torch or openvino, as `backbone.runtime` comes out on the driver.
        runtime_error: why it does not.
        images: a few of the catalog's.
        output: the output root.
        failures: what could not be observed, and why: "start", "python", "tasks", "fetch".
    """

    config: Config
    settings: Mapping[str, str]
    master: str
    python_asked: str
    python_named: bool
    driver: Place
    executors: tuple[Place, ...] = ()
    known: int = 0
    pythons: tuple[StartedPython, ...] = ()
    runtime: str = "torch"
    runtime_error: str = ""
    images: Images = Images()
    output: Output = Output()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether driver and executor are one process."""
        return spark_settings.is_local(self.master)

    @property
    def contained(self) -> bool:
        """Whether executors live in containers, which are killed when they take more memory than was asked for."""
        return self.master.startswith(("yarn", "k8s"))

    def setting(self, name: str, default: str = "") -> str:
        """A setting of Spark's, or what it is where nobody has set it."""
        return self.settings.get(name, default)

    def is_on(self, name: str, default: bool = False) -> bool:
        """A setting that is true or false."""
        return self.setting(name, str(default)).lower() == "true"
