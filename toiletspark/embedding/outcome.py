"""The outcome of a run over the whole catalog: images per status, and a stop if none is sound."""

from collections.abc import Mapping

from toiletspark.errors import AuditError

_KEYS = {  # the configuration that explains a status best, if nearly all images have it
    "missing": "images.url_prefix and images.columns.image_url",
    "denied": "fetch.storage_options, or the credentials of the executors",
    "refused": "fetch.allow, and fetch.allow_private for servers of the house",
    "timeout": "fetch.timeout_s, or the way to the hosts (firewall, proxy, DNS)",
    "too_large": "fetch.max_image_bytes",
    "not_an_image": "decode.formats and images.columns.image_url",
    "too_many_pixels": "decode.max_pixels",
    "too_small": "decode.min_side_px",
    "decode_timeout": "decode.timeout_s",
    "out_of_memory": "decode.max_memory_bytes",
}


def statuses(counts: Mapping[str, int]) -> dict[str, int]:
    """The statuses that occur, the most frequent first."""
    occurring = [(name, count) for name, count in counts.items() if count]
    return dict(sorted(occurring, key=lambda item: -item[1]))


def require_sound(counted: Mapping[str, int]) -> None:
    """Raises AuditError if the catalog has images and none is sound; `counted` are `statuses`."""
    if not counted or counted.get("ok"):
        return
    first = next(iter(counted))
    key = _KEYS.get(first, "the images table")
    raise AuditError(
        doing="embedding the images of the catalog",
        expected="at least one sound image",
        found=f"none; {', '.join(f'{count} {name}' for name, count in counted.items())}",
        todo=f"look at {key}; then `toiletspark embed --retry failed` tries them again "
        "(their statuses are kept in the catalog; versions are untouched)",
    )
