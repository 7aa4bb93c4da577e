"""Checks of what the cluster must reach: the output root, the images table, the image hosts."""

from collections.abc import Iterator

from toiletspark.launch.doctor.findings import Finding, names
from toiletspark.launch.doctor.observed import ImageHost, Observed

_FAILING_SHARE = 0.2
_HOST_FAILURES = ("timeout", "denied", "refused")  # of the host or the network, not of one image


def output(cluster: Observed) -> Iterator[Finding]:
    """Nothing can be written, or not by executors."""
    root, trial = cluster.config.output.root, cluster.output
    if trial.foreign:
        what = f"{root} holds something that toiletspark did not make: {trial.foreign}"
        why = "every job refuses such a folder"
        todo = "--set output.root=... to a folder of its own; nothing was touched"
        yield Finding("output", "error", what, "driver", why, todo)
    if trial.driver_error:
        what = f"the driver cannot write to {root}: {trial.driver_error}"
        why = "every job ends before it has begun"
        todo = "set output.root to a writable folder, or mend its permissions or credentials"
        yield Finding("output", "error", what, "driver", why, todo)
    if trial.executors_error:
        what = f"the executors cannot write to {root}: {trial.executors_error}"
        why = "a job works for hours and fails when it writes"
        todo = "let the executors' user write there; give Spark the store's spark.hadoop.fs... keys"
        yield Finding("output", "error", what, "executors", why, todo)
    if trial.unseen_files:
        what = f"the driver does not see {trial.unseen_files} files that executors wrote to {root}"
        why = "each machine has a folder of that name of its own, and results are scattered"
        todo = "--set output.root=... to what all machines share: hdfs://, s3://, a mounted share"
        yield Finding("output", "error", what, "executors", why, todo)


def pointer(cluster: Observed) -> Iterator[Finding]:
    """The store does not separate two publishers, or returns replaced content."""
    root, trial = cluster.config.output.root, cluster.output
    tried = f"of {len(trial.winners)} names that several tried to create at once"
    if twice := sum(winners > 1 for winners in trial.winners):
        what = f"{tried}, {twice} were given to more than one"
        why = "two publications at the same time can get one number, and one of them is lost"
        todo = "publish from one program at a time, or use hard links or S3 with If-None-Match"
        yield Finding("pointer", "warning", what, root, why, todo)
    if 0 in trial.winners:
        what = f"{tried}, {trial.winners.count(0)} were given to nobody"
        why = "no version can be published"
        todo = "does another program write there? may hard links be made (on a mounted share)?"
        yield Finding("pointer", "error", what, root, why, todo)
    if trial.stale_reads or trial.unlisted:
        unlisted = f"{trial.unlisted} new files were not listed"
        what = f"{trial.stale_reads} reads gave the old content, {unlisted}"
        why = "readers get an old version, and a job overlooks what the previous one wrote"
        todo = "switch off caches of the store (s3fs: use_listings_cache, a gateway's cache)"
        yield Finding("pointer", "error", what, root, why, todo)


def images_table(cluster: Observed) -> Iterator[Finding]:
    """The images table is missing, or differs from the configuration."""
    table = cluster.config.images
    if reason := cluster.failures.get("images_table"):
        what = f"the images table cannot be read: {reason}"
        why = "there is nothing to work on"
        todo = f"mend images.{table.key}, images.format or images.columns"
        yield Finding("images_table", "error", what, table.label, why, todo)
    elif not table.is_set:
        what = "there is no images table in the configuration, so no image host was checked"
        why = "only a trial shows which hosts cannot be reached"
        todo = "give the configuration of your jobs: --conf mytables.toml"
        yield Finding("images_table", "note", what, "", why, todo)


def hosts(cluster: Observed) -> Iterator[Finding]:
    """An image host cannot be reached, or fails for part of the images."""
    if reason := cluster.failures.get("fetch"):
        what = f"images could not be fetched on the cluster: {reason}"
        todo = "look at the executors' stderr"
        yield Finding("hosts", "error", what, "", "no job would", todo)
    driver_alone = "" if cluster.images.from_executors else "asked from the driver alone"
    for host in cluster.images.hosts:
        yield from _of_host(host, driver_alone or names(host.failed_at))


def _of_host(host: ImageHost, where: str) -> Iterator[Finding]:
    failed, missing = host.count(*_HOST_FAILURES), host.count("missing")
    details = [(*key, number) for key, number in host.statuses.items()]
    statuses = ", ".join(f"{n} x {status} ({detail})" for status, detail, n in details if detail)
    name = host.name or "the machines' own file system"
    if failed == host.asked:
        what = f"{name} cannot be reached: {statuses}"
        why = "none of its images is scored, and the audit of unscored images stops the publication"
        yield Finding("hosts", "error", what, where, why, _remedy(host))
    elif failed / host.asked >= _FAILING_SHARE:
        what = f"{name} failed in {failed} of {host.asked} fetches: {statuses}"
        why = "so large a part of its images stays unscored, or every run waits for retries"
        yield Finding("hosts", "warning", what, where, why, _remedy(host))
    elif missing == host.asked and missing > 1:
        what = f"{name} has none of {missing} images that were asked for: {statuses}"
        why = "if they are all gone, nothing is scored"
        todo = "check images.columns.image_url and images.url_prefix; every machine needs the path"
        yield Finding("hosts", "error", what, where, why, todo)


def _remedy(host: ImageHost) -> str:
    if host.count("denied"):
        return "give credentials: [fetch.storage_options], or the environment of the executors"
    if host.count("refused"):
        return "if they are wanted: fetch.allow, and fetch.allow_private for servers of the house"
    slow = "if it is only slow, raise fetch.timeout_s and lower fetch.max_per_host"
    return f"open the way from the executors to it (firewall, proxy, DNS); {slow}"
