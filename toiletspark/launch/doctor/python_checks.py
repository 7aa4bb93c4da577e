"""Checks of the workers' Python: does it start, has it the packages, in the right versions."""

from collections import defaultdict
from collections.abc import Iterator

from toiletspark.launch import settings
from toiletspark.launch.doctor.findings import Finding, names
from toiletspark.launch.doctor.observed import PACKAGES, Executor, Observed
from toiletspark.launch.settings import Level
from toiletspark.package_floors import FLOORS

PYTHON_KEY = "spark.pyspark.python"
_SAME = ("toiletspark", "pyspark", "numpy", "pyarrow", "PIL", "torch", "torchvision", "openvino")
_TORCH = ("torch", "torchvision")
_NEEDED = ("numpy", "torch")  # a Python without them is not the one that was meant
_OPTIONAL = (*_TORCH, "openvino", "toiletspark")  # the others must load everywhere
_IMPORT_NAMES = {package: name for name, package in PACKAGES.items()}
_FLOORS = {_IMPORT_NAMES[floor.package]: floor for floor in FLOORS}


def start(cluster: Observed) -> Iterator[Finding]:
    """Spark did not start, or gave no executor."""
    if reason := cluster.failures.get("start"):
        cores = cluster.setting("spark.executor.cores", "all")
        memory = cluster.setting("spark.executor.memory", "1g")
        what = f"Spark did not run a task: {reason}"
        asked = f"spark.executor.cores={cores} and spark.executor.memory={memory}"
        page = f"look at the master's page: has a worker as much free as {asked} ask for?"
        todo = cluster.start_todo or page
        yield Finding("start", "error", what, cluster.master, "no job would run either", todo)


def python(cluster: Observed) -> Iterator[Finding]:
    """The workers' Python does not start, or is another version than the driver's."""
    ours = cluster.driver.python_version
    faults = defaultdict[tuple[str, str], set[str]](set)
    for started in cluster.pythons:
        if started.error:
            fault = f"does not start: {started.error}"
            faults[fault, "every Python task fails there"].add(started.host)
        elif minor(started.version) != minor(ours):
            fault = f"is {started.version}, the driver's is {ours}"
            why = "Spark refuses to run Python tasks of another minor version"
            faults[fault, why].add(started.host)
    if reason := cluster.failures.get("python"):
        faults[f"could not be tried: {reason}", "nothing runs"] = set()
    own_path = ". PYSPARK_PYTHON is not set, so the driver's own path was taken"
    unnamed = "" if cluster.python_named else own_path
    ship = "or ship an environment with --archives (make dist)"
    todo = f"name a Python that every machine has: --conf {PYTHON_KEY}=PATH, {ship}"
    for (fault, why), hosts in faults.items():
        what = f"the workers' Python {cluster.python_asked} {fault}{unnamed}"
        yield Finding("python", "error", what, ", ".join(sorted(hosts)), why, todo)


def tasks(cluster: Observed) -> Iterator[Finding]:
    """Python tasks fail, or do not reach every executor."""
    if reason := cluster.failures.get("tasks"):
        what = f"a Python task that imports nothing fails: {reason}"
        why, todo = "no job that scores would run", "look at the executors' stderr"
        yield Finding("tasks", "error", what, "", why, todo)
    elif cluster.executors and len(cluster.executors) < cluster.known:
        what = f"{len(cluster.executors)} of {cluster.known} executors answered"
        why = "the others were not checked: they may be lost, or busy with another job"
        todo = "run this again when nothing else runs in the application"
        yield Finding("tasks", "warning", what, "", why, todo)


def python_named(cluster: Observed) -> Iterator[Finding]:
    """Nobody named the Python that executors start."""
    executors, ours = cluster.executors, cluster.driver.python
    in_cluster = cluster.setting("spark.submit.deployMode") == "cluster"
    has_drivers_path = settings.is_one_machine(cluster.master)
    if cluster.python_named or in_cluster or has_drivers_path or not executors:
        return  # without executors `start` and `python` report more
    theirs = ", ".join(sorted({executor.python for executor in executors}))
    what = f"PYSPARK_PYTHON is not set; the executors started {theirs}, the driver is {ours}"
    why = "a machine without that path has no Python, or the system's, which lacks the packages"
    todo = f"name it: --conf {PYTHON_KEY}=PATH, or export PYSPARK_PYTHON=PATH"
    mends = {PYTHON_KEY: cluster.python_asked}
    versions = [executor.packages[name].version for executor in executors for name in _NEEDED]
    level: Level = "warning" if all(versions) else "error"
    yield Finding("python_named", level, what, names(executors), why, todo, mends)


def python_said_in_vain(cluster: Observed) -> Iterator[Finding]:
    """A setting names a Python that is not the one that executors start."""
    named = cluster.setting(PYTHON_KEY)
    if named and named != cluster.python_asked:
        what = f"{PYTHON_KEY} is {named}, and the executors start {cluster.python_asked}"
        why = "only spark-submit reads it; PYSPARK_PYTHON wins, and [spark.settings] come too late"
        todo = f"export PYSPARK_PYTHON={named}, or tell spark-submit: --conf {PYTHON_KEY}={named}"
        where = names(cluster.executors)
        yield Finding("python_said_in_vain", "warning", what, where, why, todo)


def packages(cluster: Observed) -> Iterator[Finding]:
    """A package is missing on an executor or on the driver, or does not load there."""
    always = [name for name in PACKAGES if name not in _OPTIONAL]
    wanted = [*always, *_TORCH, *(["openvino"] if cluster.runtime == "openvino" else [])]
    faults = defaultdict[tuple[str, str], list[Executor]](list)
    for executor in (cluster.driver, *cluster.executors):
        for name in wanted:
            package = executor.packages[name]
            if package.error:
                fault = f"does not load: {package.error}" if package.version else "is missing"
                faults[name, fault].append(executor)
    install = f"install it in {cluster.python_asked}, or name another: --conf {PYTHON_KEY}=PATH"
    todo = f"{install}, or ship an environment with --archives (make dist)"
    for (name, fault), executors in faults.items():
        level: Level = "error"
        why = "tasks that come to that executor fail, and after four attempts so does the job"
        if cluster.runtime == "openvino" and name in _TORCH:
            level = "warning"
            why = "OpenVINO works, but backbone.runtime=torch would fail, and so would GPUs"
        yield Finding("packages", level, f"{PACKAGES[name]} {fault}", names(executors), why, todo)


def ours(cluster: Observed) -> Iterator[Finding]:
    """toiletspark itself is missing on an executor."""
    lacking = [executor for executor in cluster.executors if executor.packages["toiletspark"].error]
    if lacking:
        what = f"toiletspark does not load: {lacking[0].packages['toiletspark'].error}"
        why = "executors run its code; every embedding task fails there"
        todo = "submit with --py-files dist/*.whl, or install it in the workers' Python"
        yield Finding("toiletspark", "error", what, names(lacking), why, todo)


def floors(cluster: Observed) -> Iterator[Finding]:
    """A package is so old that strangers' files can harm the machine, or known to be broken."""
    harmful = defaultdict[tuple[str, str], list[Executor]](list)
    for executor in (cluster.driver, *cluster.executors):
        for name in _FLOORS:
            version = executor.packages[name].version
            if not _is_allowed(name, version):
                harmful[name, version].append(executor)
    for (name, version), executors in harmful.items():
        floor = _FLOORS[name]
        what = f"{floor.package} is {version}"
        todo = f"pip install '{floor.requirement}' in that Python: {executors[0].python}"
        yield Finding("floors", "error", what, names(executors), floor.why, todo)


def same_versions(cluster: Observed) -> Iterator[Finding]:
    """Executors have other versions than the driver; `floors` reports the harmful ones."""
    for name in _SAME:
        package, expected = PACKAGES[name], cluster.driver.packages[name].version
        others = defaultdict[str, list[Executor]](list)
        for executor in cluster.executors:
            version = executor.packages[name].version
            are_allowed = _is_allowed(name, version) and _is_allowed(name, expected)
            if version and expected and version != expected and are_allowed:
                others[version].append(executor)
        for version, executors in others.items():
            what = f"{package} is {version}, and {expected} on the driver"
            why = "results differ from machine to machine, or cannot be read on the other"
            todo = f"install {package} {expected} in {executors[0].python}, or use --archives"
            yield Finding("same_versions", "warning", what, names(executors), why, todo)


def runtime(cluster: Observed) -> Iterator[Finding]:
    """The configured runtime is missing on the driver."""
    if cluster.runtime_error:
        key = f"backbone.runtime={cluster.config.backbone.runtime}"
        what = f"{key} needs the package openvino; found: {cluster.runtime_error}"
        why = "embedding ends before it has begun"
        todo = "pip install '.[openvino]' in the checkout, everywhere; "
        todo += "or --set backbone.runtime=torch"
        yield Finding("runtime", "error", what, "driver", why, todo)


def minor(version: str) -> list[str]:
    """Returns the first two numbers of a Python version."""
    return version.split(".")[:2]


def _is_allowed(name: str, version: str) -> bool:
    """Returns True also for a missing package, which `packages` reports."""
    return not version or name not in _FLOORS or _FLOORS[name].allows(version)
