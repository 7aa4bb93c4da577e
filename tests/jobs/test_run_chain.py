"""The order of the steps: a folder that people made is imported once contents are known."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import literal_config
from toiletspark.config.command_line import Summary
from toiletspark.jobs import run_chain
from toiletspark.launch.job import Job
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace


def order_of_steps(monkeypatch: pytest.MonkeyPatch, sets: dict[str, Any]) -> list[str]:
    ran: list[str] = []

    def run_in_turn(jobs: list[Job], work: Workspace) -> Summary:
        ran.extend(job.name for job in jobs)
        return {}

    monkeypatch.setattr(run_chain, "run_in_turn", run_in_turn)
    monkeypatch.setattr(run_chain, "to_feed", lambda work, begun: begun)
    config = literal_config(sets)
    no_spark: Any = None
    run_chain.step(Workspace(no_spark, Store.open(config.output.root), config))
    return ran


def test_a_plain_folder_is_imported_after_embedding_and_nothing_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("toilet", "other"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "a.jpg").write_text(name)
    sets = {"output.root": tmp_path / "output", "labels.folder": tmp_path / "mine"}
    after_embed = ["draw_sample", "embed_images", "import_labels", "train_head"]
    assert order_of_steps(monkeypatch, sets) == after_embed
    sets["labels.file"] = tmp_path / "labels.json"  # a file comes first
    before_embed = ["draw_sample", "import_labels", "embed_images", "train_head"]
    assert order_of_steps(monkeypatch, sets) == before_embed
