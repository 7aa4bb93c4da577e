"""petastorm and pyarrow: equal rows, equal heads; only files of the manifest are opened."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.test_train import clusters, config, gathered
from toiletspark.config.loading import load
from toiletspark.errors import OutputError
from toiletspark.model import registry
from toiletspark.model.embedding_codec import to_stored
from toiletspark.tables.runs import Run
from toiletspark.training import dataset, fit, readers
from toiletspark.training.heads import train
from toiletspark.training.readers import FittedRows

ADAM = ["train.optimizer=adam", "train.epochs=3", "train.batch_size=16", "train.learning_curve=[]"]
UNISCHEMA_KEY = b"dataset-toolkit.unischema.v1"  # petastorm unpickles the value
Reader = Callable[[Run, int], Iterator[np.ndarray]]


def rows_of(reader: Reader, run: Run, width: int = 512) -> np.ndarray:
    return np.concatenate([*reader(run, width), np.empty((0, width), np.float32)])


@pytest.mark.petastorm
@pytest.mark.parametrize("files", [1, 3, 11])
def test_both_readers_give_the_stored_rows_in_their_order(tmp_path: Path, files: int) -> None:
    """Row groups of 50 rows in several files, and rows without a usable embedding, as zeros."""
    stored: list[bytes | None] = list(to_stored(clusters(330)[0]))
    stored[5], stored[7], stored[200] = None, b"odd", b""
    run = gathered(tmp_path, stored, ["x"] * 330, files=files)
    plain = rows_of(readers.by_pyarrow, run)
    tables = [pq.read_table(f"{run.folder}/{file.name}") for file in run.files]
    slow = []
    for value in pa.concat_tables(tables).column("embedding").to_pylist():
        usable = value is not None and len(value) == 1024
        slow.append(np.frombuffer(value if usable else bytes(1024), "<f2").astype(np.float32))
    np.testing.assert_array_equal(plain, np.stack(slow))
    assert not plain[
        np.argsort([name for t in tables for name in t["image_id"].to_pylist()])[5]
    ].any()
    read = rows_of(readers.by_petastorm, run)
    assert (read.dtype, plain.dtype) == (np.float32, np.float32)
    np.testing.assert_array_equal(read, plain)


@pytest.mark.petastorm
@pytest.mark.parametrize("signs", ["portal #1", "a?b=c", "100%25", "[x] {y,z} *", "a::b"])
def test_a_folder_whose_name_has_signs_of_urls_and_patterns(tmp_path: Path, signs: str) -> None:
    (tmp_path / signs).mkdir()
    run = gathered(tmp_path / signs, to_stored(clusters(20)[0]), ["x"] * 20, files=2)
    plain, read = rows_of(readers.by_pyarrow, run), rows_of(readers.by_petastorm, run)
    assert len(plain) == 20
    np.testing.assert_array_equal(read, plain)


@pytest.mark.petastorm
def test_a_run_without_rows_gives_none(tmp_path: Path) -> None:
    run = gathered(tmp_path, [], [])
    assert len(rows_of(readers.by_pyarrow, run)) == len(rows_of(readers.by_petastorm, run)) == 0


@pytest.mark.petastorm
def test_stored_rows_are_those_of_its_images_with_their_numbers(tmp_path: Path) -> None:
    embeddings = clusters(120)[0]
    run = gathered(tmp_path, to_stored(embeddings), ["x"] * 120, files=4)
    names = [f"i{number:05}" for number in (70, 3, 119, 40)]
    read = {
        number: row
        for part in FittedRows.of(run, names, 512)
        for number, row in zip(*part, strict=True)
    }
    assert sorted(read) == [0, 1, 2, 3]
    for number, image in enumerate((70, 3, 119, 40)):
        np.testing.assert_array_equal(read[number], embeddings[image].astype(np.float16))


@pytest.mark.petastorm
@pytest.mark.parametrize("shuffled_rows", [16_384, 64])
def test_both_readers_and_the_memory_give_one_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shuffled_rows: int
) -> None:
    """Rows in memory are shuffled as a whole, so they agree while those of files are, too."""
    monkeypatch.setattr(fit, "_SHUFFLED_ROWS", shuffled_rows)
    embeddings, labels = clusters(240, seed=3)
    words = [("toilet", "other")[label] for label in labels]
    run = gathered(tmp_path, to_stored(embeddings), words, files=3)
    examples = dataset.read(run)
    assert np.array_equal(examples.embeddings, embeddings.astype(np.float16))
    settings = load(sets=ADAM).train
    stored = FittedRows.of(run, examples.image_id, 512)

    def head(given: Any) -> np.ndarray:
        return fit.fit(examples.embeddings, labels, 2, settings, stored=given).weight

    by_petastorm, in_memory = head(stored), head(None)
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    np.testing.assert_array_equal(by_petastorm, head(stored))
    assert np.array_equal(by_petastorm, in_memory) == (shuffled_rows > 240)
    assert np.corrcoef(by_petastorm.ravel(), in_memory.ravel())[0, 1] > 0.9


@pytest.mark.petastorm
def test_petastorm_feeds_the_epochs_and_pyarrow_where_it_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    for name in ("by_petastorm", "by_pyarrow"):
        reader = getattr(readers, name)
        monkeypatch.setattr(
            readers, name, lambda *of, name=name, reader=reader: used.append(name) or reader(*of)
        )
    embeddings, labels = clusters(240)
    words = [("toilet", "other")[label] for label in labels]
    gathered(tmp_path, to_stored(embeddings), words)
    settings = config(tmp_path, ("toilet", "other"), *ADAM)
    first = train(settings)
    epochs = registry.load(first["head"]).facts["fit"]["epochs"]
    assert used == ["by_petastorm"] * epochs
    monkeypatch.setattr(readers, "find_spec", lambda name: None)
    second = train(settings)
    assert used == ["by_petastorm"] * epochs + ["by_pyarrow"] * epochs
    assert first["head_id"] == second["head_id"]


def test_a_python_without_petastorm_trains(tmp_path: Path) -> None:
    embeddings, labels = clusters(240)
    gathered(tmp_path, to_stored(embeddings), [("toilet", "other")[label] for label in labels])
    hidden = "import runpy, sys; sys.modules['petastorm'] = None; sys.argv = sys.argv[1:]; "
    code = f"{hidden}runpy.run_module('toiletspark.training.train', run_name='__main__')"
    sets = ["lookalikes.min_cosine=0.9999", f"output.root={tmp_path}", *ADAM]
    words = [word for key in sets for word in ("--set", key)]
    command = [sys.executable, "-c", code, "train", "--no-page", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# Files that others have put there


class Planted:
    """Runs code when it is unpickled, by a function that petastorm's own unpickler lets through."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.proof)!r}, 'w').close()",)


def plant(run: Run, proof: Path) -> None:
    import pickle

    schema = pq.read_schema(f"{run.folder}/{run.files[0].name}")
    pickled = pickle.dumps(Planted(proof))
    planted = schema.with_metadata({UNISCHEMA_KEY: pickled})
    pq.write_metadata(planted, f"{run.folder}/_common_metadata")


@pytest.mark.petastorm
def test_a_pickle_planted_beside_the_files_is_never_opened(tmp_path: Path) -> None:
    embeddings, labels = clusters(240)
    words = [("toilet", "other")[label] for label in labels]
    run, proof = gathered(tmp_path, to_stored(embeddings), words, files=2), tmp_path / "proof"
    plant(run, proof)
    train(config(tmp_path, ("toilet", "other"), *ADAM))
    assert not proof.exists()
    # petastorm, given the folder itself, runs it
    from petastorm import make_batch_reader

    with pytest.raises(AttributeError):  # it is no schema
        make_batch_reader(f"file://{run.folder}", reader_pool_type="dummy")
    assert proof.exists()


@pytest.mark.petastorm
@pytest.mark.parametrize("reader", [readers.by_pyarrow, readers.by_petastorm])
def test_an_altered_or_added_file_is_refused_before_any_is_opened(
    tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = gathered(tmp_path, to_stored(clusters(60)[0]), ["x"] * 60, files=2)
    file = Path(run.folder) / run.files[1].name
    content = file.read_bytes()
    file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    for found in ("other contents|no Parquet", "'part-2.parquet': in no manifest"):
        with pytest.raises(OutputError, match=found) as stopped:
            next(reader(run, 512))
        assert stopped.value.todo == "run `toiletspark train` again: it gathers the files anew"
        file.write_bytes(content)
        (Path(run.folder) / "part-2.parquet").write_bytes(content)
    (Path(run.folder) / "part-2.parquet").unlink()
    assert len(rows_of(reader, run)) == 60
