"""The doctor's checks, without Spark: each fault is found by its check and no other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.seen_clusters import GB, executor, sound, with_package
from toiletspark.launch import settings
from toiletspark.launch.doctor import report, resource_checks
from toiletspark.launch.doctor.checks import CHECKS, examine
from toiletspark.launch.doctor.findings import Finding, exit_code
from toiletspark.launch.doctor.observed import (
    FetchedImages,
    ImageHost,
    Observed,
    OutputTrial,
    StartedPython,
)

BUSY = {
    "spark.dynamicAllocation.enabled": "true",
    "spark.dynamicAllocation.shuffleTracking.enabled": "false",
}
GPUS = {"spark.executor.resource.gpu.amount": "1"}


def host(**statuses: int) -> FetchedImages:
    """A host with these answers."""
    counts = {
        (status, status if status != "ok" else ""): number for status, number in statuses.items()
    }
    answered = ImageHost("cdn.example.com", sum(statuses.values()), counts)
    return FetchedImages(median_bytes=200_000, hosts=(answered,))


def both(**changes: object) -> Observed:
    """Both executors changed alike."""
    return sound(executors=(executor(**changes), executor("executor 1", "b", **changes)))


def nth(number: int, **changes: object) -> Observed:
    """One of the two executors changed."""
    cluster = sound()
    changed = replace(cluster.executors[number], **changes)
    return replace(
        cluster,
        executors=tuple(changed if n == number else one for n, one in enumerate(cluster.executors)),
    )


# the cluster, the check, its level, and words of what it says that must be there
FAULTS: dict[str, tuple[Callable[[], Observed], str, str, list[str]]] = {
    "no executor": (
        lambda: sound(
            executors=(), known=0, python_named=False, failures={"start": "no executor had come"}
        ),
        *("start", "error", ["no executor had come", "spark.executor.memory=2g"]),
    ),
    "no such master": (
        lambda: sound(
            executors=(), known=0, failures={"start": "no host"}, start_todo="correct spark.master"
        ),
        *("start", "error", ["no host", "correct spark.master"]),
    ),
    "no such python": (
        lambda: sound(
            pythons=(
                StartedPython("a", "", "there is no /env/bin/python"),
                StartedPython("b", "3.11.1"),
            )
        ),
        *("python", "error", ["there is no /env/bin/python", "spark.pyspark.python"]),
    ),
    "another python": (
        lambda: sound(pythons=(StartedPython("a", "3.9.2"), StartedPython("b", "3.11.1"))),
        *("python", "error", ["3.9.2", "3.11.7"]),
    ),
    "python not named": (
        lambda: sound(python_named=False),
        *("python_named", "warning", ["PYSPARK_PYTHON is not set", "spark.pyspark.python"]),
    ),
    "python named in vain": (
        lambda: sound(settings={"spark.pyspark.python": "/other/python"}),
        *(
            "python_said_in_vain",
            "warning",
            ["/other/python", "export PYSPARK_PYTHON=/other/python"],
        ),
    ),
    "tasks fail": (
        lambda: sound(executors=(), failures={"tasks": "Python worker exited"}),
        *("tasks", "error", ["Python worker exited"]),
    ),
    "one is silent": (lambda: sound(known=3), "tasks", "warning", ["2 of 3"]),
    "toiletspark missing": (
        lambda: sound(
            executors=(executor(), with_package("toiletspark", "", "ModuleNotFoundError: no"))
        ),
        *("toiletspark", "error", ["executor 1 on b", "--py-files"]),
    ),
    "torch missing": (
        lambda: sound(
            executors=(executor(), with_package("torch", "", "ModuleNotFoundError: torch"))
        ),
        *("packages", "error", ["torch is missing", "executor 1 on b", "--archives"]),
    ),
    "torch missing, not needed now": (
        lambda: sound(executors=(executor(), with_package("torch", "", "no")), runtime="openvino"),
        *("packages", "warning", ["torch is missing", "OpenVINO"]),
    ),
    "torch does not load": (
        lambda: sound(
            executors=(executor(), with_package("torch", "2.12.1", "OSError: libgomp.so.1"))
        ),
        *("packages", "error", ["torch does not load: OSError: libgomp.so.1"]),
    ),
    "runtime": (
        lambda: sound(runtime="openvino", runtime_error="none"),
        *("runtime", "error", ["backbone.runtime=torch"]),
    ),
    "old Pillow": (
        lambda: sound(executors=(executor(), with_package("PIL", "12.3.0"))),
        *("floors", "error", ["Pillow is 12.3.0", "executor 1 on b", "Pillow>=13.0.0", "CVE"]),
    ),
    "old torch": (
        lambda: sound(executors=(executor(), with_package("torch", "2.9.1+cpu"))),
        *("floors", "error", ["torch is 2.9.1+cpu", "torch>=2.10"]),
    ),
    "holed pyarrow": (
        lambda: sound(driver=with_package("pyarrow", "17.0.0", at=sound().driver)),
        *("floors", "error", ["pyarrow is 17.0.0", "driver on d", "15.0 to 23.0.0", "!=17.*"]),
    ),
    "unlike versions": (
        lambda: sound(executors=(executor(), with_package("numpy", "2.0"))),
        *("same_versions", "warning", ["numpy is 2.0, and 1.0 on the driver"]),
    ),
    "clock": (
        lambda: nth(1, clock_off_s=-5.0),
        "clocks",
        "warning",
        ["5 s behind", "executor 1 on b"],
    ),
    "clock of yesterday": (
        lambda: nth(1, clock_off_s=86400.0),
        "clocks",
        "error",
        ["86400 s ahead"],
    ),
    "disk": (lambda: nth(0, free_bytes={"/tmp": GB}), "disks", "warning", ["1.0 GB free in /tmp"]),
    "full disk": (
        lambda: nth(0, free_bytes={"/tmp": 1000}),
        "disks",
        "error",
        ["0.0 GB free in /tmp"],
    ),
    "bf16 without": (
        lambda: sound({"backbone.precision": "bf16"}),
        *("cpu", "warning", ["AVX512_BF16", 'backbone.precision = "fp32"']),
    ),
    "no avx2": (
        lambda: nth(1, cpu_flags=frozenset({"avx512_vnni"})),
        "cpu",
        "warning",
        ["no AVX2", "executor 1"],
    ),
    "threads": (
        lambda: both(threads=8),
        *(
            "threads",
            "warning",
            ["2 tasks at once", "16 threads", "2 cores", "spark.executorEnv.OMP_NUM_THREADS=1"],
        ),
    ),
    "idle cores": (
        lambda: sound(settings={"spark.task.cpus": "2"}),
        *("threads", "warning", ["2 cores (spark.task.cpus) and computes with 1"]),
    ),
    "crowded machine": (
        lambda: sound(executors=(executor(cpus=1), executor("executor 1", cpus=1))),
        *("crowded_machines", "warning", ["4 threads on 1 CPUs"]),
    ),
    "Arrow": (
        lambda: sound(settings={"spark.sql.execution.arrow.maxRecordsPerBatch": "100000"}),
        *(
            "arrow_batches",
            "warning",
            ["20,000 MB", "--conf spark.sql.execution.arrow.maxRecordsPerBatch=256"],
        ),
    ),
    "Arrow, inline": (
        lambda: sound(
            settings={"spark.sql.execution.arrow.maxRecordsPerBatch": "100000"},
            images=replace(sound().images, inline=True),
        ),
        *("arrow_batches", "error", ["20,000 MB"]),
    ),
    "batches of ours": (
        lambda: sound({"embed.images_per_batch": 1000}),
        *("arrow_batches", "warning", ["200 MB", "--set embed.images_per_batch=256"]),
    ),
    "overhead": (
        lambda: sound(settings={"spark.executor.memoryOverhead": "384m"}),
        *(
            "memory_overhead",
            "warning",
            ["0.4 GB", "2 tasks", "3.5 GB", "spark.executor.memoryOverhead=3584m"],
        ),
    ),
    "overhead of executors on the driver's machine": (
        lambda: sound(
            master="local-cluster[2,1,1024]", settings={"spark.executor.memoryOverhead": "384m"}
        ),
        *("memory_overhead", "warning", ["0.4 GB", "3.5 GB"]),
    ),
    "overhead on YARN, as it comes": (
        lambda: sound(master="yarn"),
        "memory_overhead",
        "error",
        ["0.4 GB"],
    ),
    "overhead on Kubernetes": (
        lambda: sound(master="k8s://https://k", settings={"spark.executor.memory": "4g"}),
        *("memory_overhead", "error", ["1.7 GB", "3.5 GB"]),
    ),
    "machine's memory": (
        lambda: both(memory_bytes=4 * GB),
        "machine_memory",
        "warning",
        ["5.6 GB", "4.0 GB"],
    ),
    "bounded addresses": (
        lambda: sound(settings={"spark.executor.pyspark.memory": "2g"}),
        *("python_memory", "warning", ["spark.executor.pyspark.memory"]),
    ),
    "no reuse": (
        lambda: sound(settings={"spark.python.worker.reuse": "false"}),
        *("worker_reuse", "warning", ["spark.python.worker.reuse=true"]),
    ),
    "executors take their shuffles with them": (
        lambda: sound(settings=BUSY),
        *("dynamic_allocation", "warning", ["shuffleTracking.enabled=true"]),
    ),
    "speculation": (
        lambda: sound(settings={"spark.speculation": "true"}),
        *("speculation", "warning", ["spark.speculation=false"]),
    ),
    "GPUs unused by Spark": (
        lambda: both(gpus=2),
        "gpu_share",
        "warning",
        ["2 GPUs", "spark.task.resource.gpu"],
    ),
    "cores idle beside a GPU": (
        lambda: sound(settings={**GPUS, "spark.task.resource.gpu.amount": "1"}),
        *("gpu_share", "warning", ["1 tasks", "cores would do for 2", "spark.task.cpus=2"]),
    ),
    "shares of a GPU unused": (
        lambda: sound(settings={**GPUS, "spark.task.resource.gpu.amount": "0.1"}),
        *("gpu_share", "warning", ["10 shares", "spark.task.resource.gpu.amount=0.5"]),
    ),
    "foreign output": (
        lambda: sound(output=OutputTrial(foreign="thesis.doc")),
        "output",
        "error",
        ["thesis.doc"],
    ),
    "unwritable": (
        lambda: sound(output=OutputTrial(driver_error="Not a dir")),
        "output",
        "error",
        ["Not a dir", "driver"],
    ),
    "unwritable for executors": (
        lambda: sound(output=OutputTrial(executors_error="denied")),
        *("output", "error", ["executors cannot write", "denied"]),
    ),
    "not shared": (
        lambda: sound(output=OutputTrial(unseen_files=3)),
        *("output", "error", ["3 files", "the driver does not see", "hdfs://"]),
    ),
    "two winners": (
        lambda: sound(output=OutputTrial(winners=(1, 2))),
        "pointer",
        "warning",
        ["of 2 names", "1 were given to more than one"],
    ),
    "no winner": (
        lambda: sound(output=OutputTrial(winners=(1, 0))),
        "pointer",
        "error",
        ["given to nobody"],
    ),
    "stale": (
        lambda: sound(output=OutputTrial(winners=(1,), stale_reads=2)),
        "pointer",
        "error",
        ["2 reads"],
    ),
    "no table": (
        lambda: sound(failures={"images_table": "no such path"}),
        "images_table",
        "error",
        ["no such path"],
    ),
    "unreachable": (
        lambda: sound(images=host(timeout=8)),
        *("hosts", "error", ["cdn.example.com cannot be reached", "8 x timeout", "firewall"]),
    ),
    "half reachable": (lambda: sound(images=host(timeout=2, ok=6)), "hosts", "warning", ["2 of 8"]),
    "denied": (lambda: sound(images=host(denied=8)), "hosts", "error", ["[fetch.storage_options]"]),
    "refused": (lambda: sound(images=host(refused=8)), "hosts", "error", ["fetch.allow"]),
    "all gone": (
        lambda: sound(images=host(missing=8)),
        "hosts",
        "error",
        ["none of 8 images", "url_prefix"],
    ),
    "fetching fails": (lambda: sound(failures={"fetch": "lost"}), "hosts", "error", ["lost"]),
}


def text_of(finding: Finding) -> str:
    return " | ".join((finding.what, finding.where, finding.why, finding.todo))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_check_and_no_other(name: str) -> None:
    cluster, check, level, words = FAULTS[name]
    findings = [finding for finding in examine(cluster()) if finding.level != "note"]
    assert [(finding.check, finding.level) for finding in findings] == [(check, level)]
    (finding,) = findings
    assert [word for word in words if word not in text_of(finding)] == []
    assert all((finding.what, finding.why, finding.todo))
    assert exit_code(findings) == {"error": 2, "warning": 1}[level]


def test_every_check_and_every_setting_has_a_fault_that_it_finds() -> None:
    clusters = [cluster() for cluster, *_ in FAULTS.values()]
    pairs = itertools.product(clusters, CHECKS)
    effective = {check for cluster, check in pairs if list(check(cluster))}
    assert effective == set(CHECKS)
    findings = itertools.chain.from_iterable(map(examine, clusters))
    faults = " ".join(finding.what for finding in findings)
    assert [rule.key for rule in settings.RULES if rule.finding and rule.key not in faults] == []


SOUND: dict[str, Callable[[], Observed]] = {
    "standalone": sound,
    "its own conf for clusters": lambda: sound(
        settings={
            "spark.executor.cores": "4",
            "spark.executor.memory": "4g",
            "spark.executor.memoryOverhead": "6g",
        },
        executors=(executor(cores=4), executor("executor 1", "b", cores=4)),
    ),
    "YARN with room": lambda: sound(
        master="yarn", settings={"spark.executor.memoryOverhead": "4g"}
    ),
    "local": lambda: sound(
        master="local[2,4]", executors=(executor("driver", "d"),), python_named=False, known=1
    ),
    "executors on the driver's machine": lambda: sound(
        master="local-cluster[2,1,1024]", python_named=False
    ),
    "two executors on a machine of two CPUs": lambda: sound(
        executors=(
            executor(cores=1, cpus=2, memory_bytes=12 * GB),
            executor("executor 1", cores=1, cpus=2),
        )
    ),
    "one image of many is gone": lambda: sound(images=host(missing=1, ok=7)),
    "one fetch of many was too slow": lambda: sound(images=host(timeout=1, ok=7)),
    "tasks of two threads": lambda: replace(both(threads=2), settings={"spark.task.cpus": "2"}),
    "a share of a GPU for each core": lambda: replace(
        both(gpus=1), settings={**GPUS, "spark.task.resource.gpu.amount": "0.5"}
    ),
    "driver in the cluster": lambda: sound(
        python_named=False, settings={"spark.submit.deployMode": "cluster"}
    ),
    "no images": lambda: sound({"images.path": ""}, images=FetchedImages()),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_cluster_is_sound(name: str) -> None:
    findings = examine(SOUND[name]())
    assert [text_of(finding) for finding in findings if finding.level != "note"] == []
    assert exit_code(findings) == 0


def test_findings_stand_in_order_of_harm() -> None:
    cluster = sound(
        settings={"spark.speculation": "true"},
        python_named=False,
        output=OutputTrial(driver_error="read-only"),
        executors=(
            executor(),
            with_package("torch", "", "no", at=executor("executor 1", "b", threads=4)),
        ),
    )
    checks = [finding.check for finding in examine(cluster)]
    assert checks == ["packages", "output", "python_named", "threads", "speculation"]


def test_a_python_that_lacks_packages_because_nobody_named_one_is_an_error() -> None:
    bare = with_package("torch", "", "no", at=with_package("numpy", "", "no"))
    cluster = sound(python_named=False, executors=(replace(bare, python="/usr/bin/python3"),))
    (named,) = [finding for finding in examine(cluster) if finding.check == "python_named"]
    assert (named.level, "/usr/bin/python3" in named.what) == ("error", True)


def test_the_submit_line_has_what_follows_from_what_was_found() -> None:
    cluster = sound(
        {"embed.images_per_batch": 1000},
        settings={
            "spark.executor.memoryOverhead": "384m",
            "spark.speculation": "true",
            "spark.cores.max": "4",
        },
    )
    words = report.submit_line(cluster, examine(cluster), ["my tables.toml"])
    pairs = {word for flag, word in itertools.pairwise(words) if flag in ("--conf", "--set")}
    assert pairs >= {
        "spark.executor.cores=2",
        "spark.executor.memory=2g",
        "spark.task.cpus=1",
        "spark.executorEnv.OMP_NUM_THREADS=1",
        "spark.pyspark.python=/env/bin/python",
        "spark.speculation=false",
        "spark.cores.max=4",
        "embed.images_per_batch=256",
    }
    (overhead,) = [
        pair.partition("=")[2]
        for pair in pairs
        if pair.startswith("spark.executor.memoryOverhead=")
    ]
    text = report.as_text(words)
    assert text.startswith(
        "spark-submit \\\n    --master spark://m:7077 \\\n    --py-files dist/*.whl \\\n    --conf "
    )
    assert (
        "jobs/rescore_catalog.py --conf-file 'my tables.toml' \\\n"
        "    --set embed.images_per_batch=256" in text
    )
    # with these settings the doctor is content
    calm = dict(pair.split("=", 1) for pair in pairs if pair.startswith("spark."))
    assert resource_checks.parse_size(overhead, "m") >= 2 * resource_checks.WORKER_BYTES["torch"]
    assert examine(replace(cluster, config=sound().config, settings=calm)) == []


def test_threads_follow_the_cores_of_a_task() -> None:
    cluster = sound(settings={"spark.task.cpus": "2"})
    words = report.submit_line(replace(cluster, executors=(executor(threads=2),)), [])
    assert "spark.executorEnv.OMP_NUM_THREADS=2" in words


def test_the_report_for_people_names_all_parts_once(capsys: pytest.CaptureFixture[str]) -> None:
    cluster = sound(settings={"spark.speculation": "true"})
    summary = report.summary(cluster, examine(cluster), ["my.toml"], 12.34)
    report.show(summary, as_json=False)
    text = capsys.readouterr().out
    assert "spark://m:7077: 2 of 2 executors answered, 12.3 s" in text
    assert (
        "executor 1 on b: Python 3.11.7, torch 2.12.1, 2 of 8 CPUs, OMP_NUM_THREADS=1, avx2" in text
    )
    assert "1. WARNING (speculation): spark.speculation = true" in text
    assert "do: --conf spark.speculation=false" in text
    assert "Sound" not in text
    assert summary["exit_code"] == 1
    report.show(report.summary(sound(), [], [], 1.0), as_json=False)
    assert "Sound: nothing that harms was found." in capsys.readouterr().out


def test_what_strangers_wrote_does_no_harm_to_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [
        Finding(
            "hosts",
            "error",
            *(f"{name}\x1b]0;\x07\x9b2J\u202e" for name in ("what", "where", "why", "todo")),
        )
    ]
    summary = report.summary(sound(), found, ["my\x1b[2J.toml"], 1.0)
    report.show(summary, as_json=False)
    text = capsys.readouterr().out
    assert all(sign.isprintable() for sign in text.replace("\n", ""))
    for name in ("what", "where", "why", "todo", "my"):
        assert f"{name}\N{REPLACEMENT CHARACTER}" in text


def test_what_the_conf_itself_says_of_spark_is_sound() -> None:
    assert examine(sound(settings=sound().config.spark.settings)) == []
