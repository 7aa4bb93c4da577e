"""What lies outside of the cluster and must be reached by it: the output root, the images table, the image hosts."""

from __future__ import annotations

from collections.abc import Iterator

from toiletspark.launch.doctor.findings import Finding
from toiletspark.launch.doctor.observed import Host, Observed

_FAILING_SHARE = 0.2
_NOT_THE_IMAGE = (
    "timeout",
    "denied",
    "refused",
)  # these speak of the host or of the way there; others of one image


def output(seen: Observed) -> Iterator[Finding]:
    """Nothing can be written, or not by executors."""
    root, told = seen.config.output.root, seen.output
    if told.foreign:
        what = f"{root} holds something that toiletspark did not make: {told.foreign}"
        todo = "--set output.root=... to a folder of its own; nothing was touched"
        yield Finding("output", "error", what, "driver", "every job refuses such a folder", todo)
    if told.driver_error:
        what = f"the driver cannot write to {root}: {told.driver_error}"
        todo = "set output.root to a place that this user may write to, or mend its permissions or credentials"
        yield Finding("output", "error", what, "driver", "every job ends before it has begun", todo)
    if told.executors_error:
        what = f"the executors cannot write to {root}: {told.executors_error}"
        why = "a job works for hours and fails when it writes"
        todo = "let the executors' user write there; for object stores, give Spark its credentials (spark.hadoop.fs...)"
        yield Finding("output", "error", what, "executors", why, todo)
    if told.workers_error:
        what = f"Python on the executors cannot write to {root}, though Spark can: {told.workers_error}"
        why = "scoring reads the stored embeddings in Python, and ends before it has begun"
        todo = "give executors the credentials and packages that the driver has: their environment or role, and s3fs"
        yield Finding("output", "error", what, "executors", why, todo)
    if told.unseen_files:
        what = (
            f"{told.unseen_files} files that executors wrote to {root} are not seen by the driver"
        )
        why = "each machine has a folder of that name of its own, and results are scattered"
        todo = "--set output.root=... to a place that all machines share: hdfs://, s3://, or a mounted share"
        yield Finding("output", "error", what, "executors", why, todo)


def pointer(seen: Observed) -> Iterator[Finding]:
    """The store does not keep two publishers apart, or shows what has been replaced."""
    root, told = seen.config.output.root, seen.output
    twice = [winners for winners in told.winners if winners > 1]
    if twice:
        what = f"of {len(told.winners)} names that several took at once, {len(twice)} were given to more than one"
        why = "two publications at the same time can get one number, and one of them is lost"
        todo = "never publish from two programs at once; or use a file system with links, or S3 with If-None-Match"
        yield Finding("pointer", "warning", what, root, why, todo)
    if 0 in told.winners:
        what = f"of {len(told.winners)} names that several took at once, {told.winners.count(0)} were given to nobody"
        todo = "look whether another program writes there, and whether links may be made (hard links, on a mounted share)"
        yield Finding("pointer", "error", what, root, "no version can be published", todo)
    if told.stale_reads or told.unlisted:
        what = f"after writing, {told.stale_reads} reads gave the old content, {told.unlisted} files were not listed"
        why = "readers see an old version, and a job overlooks what the one before has written"
        todo = "switch off what caches in front of the store (s3fs: use_listings_cache, a gateway's cache)"
        yield Finding("pointer", "error", what, root, why, todo)


def images_table(seen: Observed) -> Iterator[Finding]:
    """The images table is not there, or not as the configuration says."""
    if seen.images.error:
        what = f"the images table cannot be read: {seen.images.error}"
        todo = "mend images.path, images.format or images.columns"
        yield Finding(
            "images_table",
            "error",
            what,
            seen.config.images.path,
            "there is nothing to work on",
            todo,
        )
    elif not seen.images.looked_at and not seen.config.images.path:
        what = "images.path is not set, so neither image hosts nor sizes were looked at"
        todo = "give the configuration of your jobs: --conf mytables.toml"
        yield Finding(
            "images_table",
            "note",
            what,
            "",
            "hosts that cannot be reached are found by trying",
            todo,
        )


def hosts(seen: Observed) -> Iterator[Finding]:
    """An image host cannot be reached, or fails for part of what it is asked."""
    if reason := seen.failures.get("fetch"):
        todo = "look at the executors' stderr"
        yield Finding(
            "hosts",
            "error",
            f"images could not be fetched on the cluster: {reason}",
            "",
            "no job would",
            todo,
        )
    for host in seen.images.hosts:
        yield from _of_host(seen, host)


def _of_host(seen: Observed, host: Host) -> Iterator[Finding]:
    failed, missing = host.count(*_NOT_THE_IMAGE), host.count("missing")
    where = ", ".join(host.failed_at[:4]) + (
        f" and {len(host.failed_at) - 4} more" if len(host.failed_at) > 4 else ""
    )
    if not seen.images.from_executors:
        where = "asked from the driver alone"
    shown = ", ".join(
        f"{number} x {status} ({detail})"
        for (status, detail), number in host.statuses.items()
        if detail
    )
    name = host.name or "the machines' own file system"
    if failed == host.asked:
        what = f"{name} cannot be reached: {shown}"
        why = "none of its images is scored, and the audit of unscored images stops the publication"
        yield Finding("hosts", "error", what, where, why, _todo(host))
    elif failed / host.asked >= _FAILING_SHARE:
        what = f"{name} failed in {failed} of {host.asked} fetches: {shown}"
        why = "so large a part of its images stays unscored, or every run waits for retries"
        yield Finding("hosts", "warning", what, where, why, _todo(host))
    elif missing == host.asked and missing > 1:
        what = f"{name} has none of {missing} images that were asked for: {shown}"
        why = "if they are all gone, nothing is scored"
        todo = "check images.columns.image_url and images.url_prefix; a local path must be there on every machine"
        yield Finding("hosts", "error", what, where, why, todo)


def _todo(host: Host) -> str:
    if host.count("denied"):
        return "give credentials: [fetch.storage_options], or the environment of the executors"
    if host.count("refused"):
        return (
            "if these images are wanted, allow them: fetch.allow (for shards a host or bucket by its name), "
            "and fetch.allow_private for servers of the house"
        )
    return (
        "open the way from the executors' network to it (firewall, proxy, DNS); if it is only slow, raise "
        "fetch.timeout_s and lower fetch.max_per_host"
    )
