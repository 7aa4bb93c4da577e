"""Observations of a cluster: plain values, which tests can also write by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from toiletspark.config import Config
from toiletspark.launch import settings

_NAMES = (
    *("toiletspark", "pyspark", "numpy", "pandas", "pyarrow", "torch", "torchvision"),
    *("openvino", "safetensors", "fsspec", "pydantic", "tenacity"),
)
PACKAGES = {**{name: name for name in _NAMES}, "PIL": "Pillow"}  # by the name to import


@dataclass(frozen=True)
class Package:
    """A package in a Python."""

    version: str  # "" if it is missing
    error: str = ""  # why it does not load


@dataclass(frozen=True)
class Executor:
    """An executor with its Python workers, or the driver."""

    name: str  # "driver", "executor 3"
    host: str
    python: str  # the path of its interpreter
    python_version: str  # as in 3.11.2
    packages: Mapping[str, Package]  # by the name to import
    cpus: int  # that it may use
    cpu_flags: frozenset[str]  # by the kernel's names
    cores: int  # that Spark assigns to it
    threads: int | None  # OMP_NUM_THREADS of a Python worker
    memory_bytes: int  # of its machine or container; 0: not known
    free_bytes: Mapping[str, int]  # of the folders for shuffles and spilled data
    clock_off_s: float = 0.0  # the least difference between its clock and the driver's
    gpus: int = 0  # of its machine

    def __str__(self) -> str:
        return f"{self.name} on {self.host}"


@dataclass(frozen=True)
class StartedPython:
    """The workers' Python, started on a machine by the JVM: its version, or the error."""

    host: str
    version: str
    error: str = ""


@dataclass(frozen=True)
class ImageHost:
    """The answers of an image host; its name is "" for files of the machines themselves."""

    name: str
    asked: int  # number of fetches, from all machines
    statuses: Mapping[tuple[str, str], int]  # number of fetches per status and detail
    failed_at: tuple[str, ...] = ()  # machines with failed fetches

    def count(self, *statuses: str) -> int:
        """Returns how many fetches ended in one of these statuses."""
        return sum(number for (status, _), number in self.statuses.items() if status in statuses)


@dataclass(frozen=True)
class FetchedImages:
    """A few images of the catalog."""

    inline: bool = False  # the table holds the images' bytes
    median_bytes: int | None = None  # None: there was no image
    hosts: tuple[ImageHost, ...] = ()
    from_executors: bool = True  # False: from the driver, because executors lack toiletspark


@dataclass
class OutputTrial:
    """Behaviour of the output root when it is written to."""

    foreign: str = ""  # a file that toiletspark did not make; then nothing was tried
    driver_error: str = ""  # why the driver cannot write
    executors_error: str = ""  # why Spark cannot write
    unseen_files: int = 0  # files of executors that the driver does not see
    winners: tuple[int, ...] = ()  # for each name that several tried to create: how many succeeded
    stale_reads: int = 0  # reads that returned replaced content
    unlisted: int = 0  # files that were not listed directly after writing


@dataclass
class Observed:
    """All that the checks know of a cluster."""

    config: Config  # of jobs
    settings: Mapping[str, str]  # of Spark, as far as they are set
    master: str
    python_asked: str  # the Python that executors start
    python_named: bool  # somebody named it; otherwise it is the driver's
    driver: Executor
    executors: tuple[Executor, ...] = ()  # that answered
    known: int = 0  # executors that Spark knows
    pythons: tuple[StartedPython, ...] = ()
    runtime: str = "torch"  # as `backbone.runtime` selects on the driver
    runtime_error: str = ""  # why that fails
    images: FetchedImages = FetchedImages()
    output: OutputTrial = field(default_factory=OutputTrial)
    # why it could not be observed: "start", "python", "tasks", "images_table", "fetch"
    failures: dict[str, str] = field(default_factory=dict)
    start_todo: str = ""  # the remedy, if environment or master are the reason

    @property
    def is_local(self) -> bool:
        """True if driver and executor are one process."""
        return settings.is_local(self.master)

    @property
    def is_contained(self) -> bool:
        """True if executors live in containers, which are killed when they exceed their memory."""
        return self.master.startswith(("yarn", "k8s"))

    @property
    def has_toiletspark(self) -> bool:
        """True if all executors that answered can import toiletspark."""
        errors = [executor.packages["toiletspark"].error for executor in self.executors]
        return bool(errors) and not any(errors)

    def setting(self, name: str, default: str = "") -> str:
        """Returns a setting of Spark, or its default if it is not set."""
        return self.settings.get(name, default)
