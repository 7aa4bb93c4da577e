"""Real photos, end to end: `make bench-photos`.

800 photos of 200 houses; the head is trained on one half of the listings and judged on the other;
then the catalog is rescored without a change, and the whole network is asked whether the scores are
its own.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.measure import command, machine
from benchmarks.whole_network import agreement
from toiletspark.config import loading as conf_files

PHOTOS = "tests/conf/photos.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--conf", action="append", default=[], help="further configuration, as conf/larger.toml"
    )
    files_of_conf = [PHOTOS, *parser.parse_args().conf]
    words = [f"--conf={file}" for file in files_of_conf]
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as root:
        env = {"TOILETSPARK_OUTPUT": root}
        run, first = command("run", *words, env=env)
        again, second = command("rescore", *words, env=env)
        config = conf_files.load(files_of_conf, [f"output.root={root}/photos"])
        files = sorted(Path(config.images.url_prefix).rglob("*.jpg"))
        network = agreement(config, run, files)
        excluded = set(pq.read_table(run["exclusion_list"])["image_id"].to_pylist())
        feed = pq.read_table(run["feed"])["photo_id"].to_pylist()
    seconds = run["seconds"]
    print(
        json.dumps(
            {
                "conf": files_of_conf,
                "images": run["images"],
                "scored": run["scored"],
                "unscored": run["unscored"],
                "adds_up": run["images"] == run["scored"] + sum(run["unscored"].values()),
                "excluded": run["excluded"],
                "excluded_in_feed": len(excluded & set(feed)),
                "lost_from_feed": run["images"] - len(feed) - len(excluded),
                "validation": run["validation"],
                "whole_network": network,
                "seconds": seconds,
                "images_per_s": {
                    step: round(run["images"] / took, 1) for step, took in seconds.items()
                },
                **first,
                "second_rescore": {
                    "embedded": again["embedded"],
                    "attempted": again["attempted"],
                    **second,
                },
                "machine": machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
