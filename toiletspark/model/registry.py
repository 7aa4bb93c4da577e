"""The heads of a store: by folder, by id, the newest, the newest that was promoted."""

import logging

from toiletspark.errors import HeadError
from toiletspark.model import bundle, golden
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST, Run, Store
from toiletspark.tables.schemas import HEADS

_LOG = logging.getLogger("toiletspark")


def load(folder: str) -> Head:
    """Reads a head and checks it with its golden scores, see `bundle.read`.

    Raises a HeadError if there is none, or if it was damaged or altered.
    """
    doing = f"reading the head {folder}"
    head = bundle.read(folder, doing=doing)
    head.require_golden_scores(doing=doing)
    return head


def current(store: Store, folder: str, *, doing: str) -> Head:
    """The head that scores: the one in `folder`, or, if that is "", the newest that was promoted.

    Raises:
        HeadError: see `load`; or no head of the store was promoted.
        OutputError: no head was trained yet.
    """
    if folder:
        return load(folder)
    newest = store.require(HEADS, doing=doing, step="train")
    promoted = newest_promoted(store)
    if promoted is None:
        raise HeadError(
            doing=doing,
            expected="a head that was promoted",
            found=f"heads that are worse than the live one, the newest in {newest.folder}",
            todo='set score.head to the live head\'s folder, or train with --accept-worse "reason"',
        )
    return load(promoted.folder)


def newest_promoted(store: Store) -> Run | None:
    """The newest head that was promoted, or None."""
    return next((run for run in reversed(store.runs(HEADS)) if run.inputs.promoted), None)


def run_of(store: Store, head_id: str, folder: str = "") -> Run | None:
    """The newest run that holds a head, or else `folder`, if that is such a run; or None."""
    runs = [run for run in store.runs(HEADS) if run.inputs.head_id == head_id]
    if runs:
        return runs[-1]
    manifest = storage.read_json(f"{folder}/{MANIFEST}") if folder else None
    if manifest is None or manifest.get("inputs", {}).get("head_id") != head_id:
        return None
    return Run.model_validate({**manifest, "table": HEADS.name, "folder": folder})


def newest_for(store: Store, backbone_id: str) -> Head | None:
    """The newest head that was fitted on this backbone, or None."""
    runs = [run for run in store.runs(HEADS) if run.inputs.backbone_id == backbone_id]
    return load(runs[-1].folder) if runs else None


def probe(store: Store, folder: str, backbone_id: str) -> GoldenImage | None:
    """The scoring head's golden image with which workers are checked before they embed.

    None before the first head for this backbone, and if the head has no golden images.
    """
    if not (folder or store.newest(HEADS)):
        return None
    head = current(store, folder, doing="embedding")
    if head.backbone_id != backbone_id:
        return None
    if not head.golden:
        _LOG.warning("the head %s has no golden images, so no worker is checked", head.head_id)
    return golden.probe(head.golden)


def require_backbone(head: Head, backbone_id: str, *, doing: str) -> None:
    """Raises a HeadError before a head scores another backbone's embeddings."""
    if head.backbone_id != backbone_id:
        raise HeadError(
            doing=doing,
            expected=f"a head for the backbone {backbone_id}, with which the catalog is embedded",
            found=f"the head {head.head_id} for the backbone {head.backbone_id}",
            todo="train a head on this backbone's embeddings, or set [backbone] to what the head "
            "was fitted on",
        )
