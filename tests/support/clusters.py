"""A standalone master and workers on this machine, from pip's pyspark, that can be killed.

    with clusters.started(folder) as cluster:
        subprocess.run([clusters.SPARK_HOME / "bin" / "spark-submit", *cluster.options(), "job.py"])

All of it listens on this machine alone, the master on 127.0.0.1, a Worker and its executors on
127.0.0.<its number>, at ports that the system gives. A Worker is the daemon that starts executors;
an executor is a JVM of one application; Python workers are its children, and start what decodes.
Environments go down that way, so what is said of a Worker holds for every process below it:
`of_worker={2: {"NAME": "plants a fault"}}`.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
# quick for a small and short life: the JVM's first compiler alone, its plainest garbage collector
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
SMALL = {
    "spark.driver.extraJavaOptions": QUICK_JAVA,
    "spark.executor.extraJavaOptions": QUICK_JAVA,
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "512m",
    "spark.ui.enabled": "false",
}
WAIT_S = 120.0  # for a process to start, on a busy machine
_END_S = 20.0


def options(master: str, settings: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """spark-submit's command line, which wins over conf/."""
    words = ["--master", master]
    for key, value in {**SMALL, **(settings or {})}.items():
        words += ["--conf", f"{key}={value}"]
    return tuple(words)


@dataclass
class Worker:
    """A Worker daemon, and its executors' folder with stderr in <work>/app-*/<number>/."""

    number: int
    work: Path
    process: subprocess.Popen[bytes]


@dataclass
class Cluster:
    """A master and Workers that run."""

    url: str
    ui: str
    folder: Path
    environment: dict[str, str]
    of_worker: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    cores: int = 1
    memory: str = "1g"
    workers: list[Worker] = field(default_factory=list)
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    # What jobs are submitted with

    @property
    def events(self) -> Path:
        """The folder of Spark's event logs, one an application."""
        return self.folder / "events"

    def options(self, settings: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """spark-submit's command for an executor of one core a Worker; `settings` win over ours."""
        ours = {
            "spark.executor.memory": "512m",
            "spark.executor.cores": "1",  # conf/cluster.toml asks for four
            "spark.cores.max": str(self.cores * len(self.workers)),
            "spark.eventLog.enabled": "true",
            # one plain file, as Spark 3.5 writes it; Spark 4 would cut and compress it
            "spark.eventLog.rolling.enabled": "false",
            "spark.eventLog.compress": "false",
            "spark.eventLog.dir": f"file://{self.events}",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # all executors are there before the first task
            "spark.scheduler.minRegisteredResourcesRatio": "1.0",
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "120s",
        }
        return options(self.url, {**ours, **(settings or {})})

    def tasks(self) -> list[list[dict[str, Any]]]:
        """Spark's events of ended tasks by application, oldest application first."""
        logs = sorted(self.events.iterdir(), key=lambda path: path.stat().st_mtime)
        return [
            [event for event in _events(log) if event["Event"] == "SparkListenerTaskEnd"]
            for log in logs
        ]

    def lost_tasks(self) -> int:
        """Failed attempts, without those that Spark ended because another copy had been faster."""
        ended = itertools.chain.from_iterable(self.tasks())
        reasons = [event["Task End Reason"]["Reason"] for event in ended]
        return sum(reason not in ("Success", "TaskKilled") for reason in reasons)

    def hosts_of_tasks(self) -> list[set[str]]:
        """The executors that ran tasks, per application, oldest first."""
        return [{event["Task Info"]["Executor ID"] for event in ended} for ended in self.tasks()]

    # Processes

    def executors(self, worker: int | None = None) -> list[psutil.Process]:
        """JVMs of the executors of one Worker (1, 2, ...) or of all, in the order of start."""
        of = [one for one in self.workers if worker in (None, one.number)]
        below = itertools.chain.from_iterable(_below(one.process.pid) for one in of)
        return _started_in_order(filter(_is_executor, below))

    def python_workers(self, worker: int | None = None) -> list[psutil.Process]:
        """The forked Python workers, without the daemon that forks them."""
        below = itertools.chain.from_iterable(_below(one.pid) for one in self.executors(worker))
        daemons = list(filter(_is_python_worker, below))
        return _started_in_order(
            child for child in daemons if child.ppid() in {one.pid for one in daemons}
        )

    # Life and death

    def start_worker(self) -> Worker:
        """One more Worker daemon; it registers within some seconds (`wait_for_workers`)."""
        number = len(self.workers) + 1
        work = self.folder / f"work-{number}"
        host = f"127.0.0.{number}"  # Spark starts no second copy of a task on the host of the first
        limits = (
            "--host",
            host,
            "--cores",
            str(self.cores),
            "--memory",
            self.memory,
            "--work-dir",
            str(work),
        )
        own = self.of_worker.get(number, {})
        process = self._daemon(
            f"worker-{number}", "worker.Worker", *limits, "--webui-port", "0", self.url, own=own
        )
        self.workers.append(Worker(number, work, process))
        return self.workers[-1]

    def wait_for_workers(self, count: int | None = None) -> None:
        """Waits until so many Workers, or all, have registered with the master."""
        wanted = len(self.workers) if count is None else count
        wait_until(
            lambda: self.workers_alive() == wanted,
            f"cluster of {wanted} workers: see {self.folder}/*.log",
        )

    def workers_alive(self) -> int:
        """The number that the master counts; a killed one's connection closes at once."""
        try:
            with urllib.request.urlopen(f"{self.ui}/json/", timeout=5) as answer:
                return int(json.load(answer)["aliveworkers"])
        except OSError:
            return 0

    def kill_worker(self, number: int) -> int:
        """Kills (SIGKILL) a Worker and its executors at once; returns the number of executors."""
        (worker,) = (one for one in self.workers if one.number == number)
        executors = self.executors(number)
        for pid in (worker.process.pid, *(one.pid for one in executors)):
            kill(pid)
        worker.process.wait()
        return len(executors)

    def stop(self) -> None:
        """Ends the daemons, and with them what they have started."""
        left = list(itertools.chain.from_iterable(_below(one.pid) for one in self.daemons))
        for process in reversed(self.daemons):
            process.terminate()  # spark-class has become the JVM itself by exec
        for process in self.daemons:
            try:
                process.wait(timeout=_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _, alive = psutil.wait_procs(left, timeout=_END_S)
        for child in alive:
            child.kill()

    def _daemon(
        self, log: str, name: str, *arguments: str, own: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        words = [SPARK_HOME / "bin" / "spark-class", f"org.apache.spark.deploy.{name}"]
        with (self.folder / f"{log}.log").open("wb") as file:
            environment = {**self.environment, **own}
            process = subprocess.Popen(
                [*words, *arguments],
                env=environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.daemons.append(process)
        return process


@contextmanager
def started(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    of_worker: Mapping[int, Mapping[str, str]] | None = None,
    workers: int = 2,
    cores: int = 1,
    memory: str = "1g",
) -> Iterator[Cluster]:
    """A cluster for as long as the block lasts.

    Args:
        folder: new; holds the daemons' logs, the event logs, and the executors' folders.
        environment: of all daemons, so of all executors; this process's own if not given.
        of_worker: what differs in a Worker's environment, by its number from 1.
        workers: how many.
        cores: of each Worker.
        memory: of each Worker, for executors' heaps; Python's memory is not counted.
    """
    (folder / "events").mkdir(parents=True)
    base = dict(os.environ if environment is None else environment)
    base |= {
        "SPARK_HOME": str(SPARK_HOME),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    base |= {"SPARK_DAEMON_JAVA_OPTS": QUICK_JAVA}
    port, ui = free_port(), free_port()
    cluster = Cluster(
        f"spark://127.0.0.1:{port}",
        f"http://127.0.0.1:{ui}",
        folder,
        base,
        of_worker or {},
        cores,
        memory,
    )
    try:
        cluster._daemon(
            "master",
            "master.Master",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--webui-port",
            str(ui),
            own={},
        )
        for _ in range(workers):
            cluster.start_worker()
        cluster.wait_for_workers()
        yield cluster
    finally:
        cluster.stop()


def kill(pid: int) -> bool:
    """SIGKILL; whether there was such a process."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until(ready: Callable[[], bool], what: str, wait_s: float = WAIT_S) -> None:
    deadline = time.monotonic() + wait_s
    while not ready():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.1)


def _events(log: Path) -> list[dict[str, Any]]:
    """A log's lines; the last one may be half a line if the driver was killed."""
    lines = log.read_text(errors="replace").splitlines()
    whole = lines[:-1] if log.suffix == ".inprogress" else lines
    return [json.loads(line) for line in whole]


def _below(pid: int) -> list[psutil.Process]:
    """All descendants, as far as they still run."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _started_in_order(found: Iterator[psutil.Process]) -> list[psutil.Process]:
    return sorted(
        {one.pid: one for one in found if one.is_running()}.values(),
        key=lambda one: one.create_time(),
    )


def _is_executor(process: psutil.Process) -> bool:
    return "CoarseGrainedExecutorBackend" in _words(process)


def _is_python_worker(process: psutil.Process) -> bool:
    return "pyspark.daemon" in _words(process)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it has just ended
