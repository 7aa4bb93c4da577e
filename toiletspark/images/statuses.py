"""The closed list of what can become of an attempt at an image, and what each status means."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Status:
    """One possible end of an attempt at an image.

    The failure class is content (the same bytes will fail again), transient (it may come next
    time), gone (there is nothing to show either), input (the user's table or configuration is
    wrong, which says nothing of the image) or policy (access was refused: a mistake in the
    configuration, or an attack); "" for sound images.
    """

    name: str  # as it stands in tables
    failure_class: str = ""
    meaning: str = ""  # a sentence for the pages
    cause: str = ""  # half a sentence for the agents who own the image


_ALL = (
    Status("ok"),
    Status(  # 404, 410, no such object; or no image_url at all
        "missing", "gone", "There was no image at the address.", "no file was found at its address"
    ),
    Status(  # 401, 403, permissions of the store
        "denied", "policy", "Access to the image was refused.", "access to the file is denied"
    ),
    Status(  # fetch.allow does not name its location, or the address behind the name is private
        "refused",
        "policy",
        "The image's address is not one that images may come from.",
        "its address is not one that images may come from",
    ),
    Status(  # no URL and no path, or a shard that is read by the wrong columns
        "bad_url",
        "input",
        "The image's address cannot be read as a URL or a path.",
        "its address is not a URL",
    ),
    Status(  # fetch.timeout_s; or the host is out of order: 5xx, refused or reset connections
        "timeout",
        "transient",
        "The image did not arrive in the time allowed.",
        "the file did not arrive in time",
    ),
    Status(  # HTTP 204 or 304, an HTML page, an empty or cut body; see `Fetched.doubt`
        "bad_answer",
        "transient",
        "The image's address answered with something else than the whole file.",
        "its host sends something else than the file",
    ),
    Status(  # fetch.max_image_bytes
        "too_large", "content", "The file has more bytes than allowed.", "the file is too large"
    ),
    Status(  # no image, or a format that decode.formats does not list
        "not_an_image",
        "content",
        "The file is not in an image format that is read.",
        "the file is not an image, or of a kind that is not read here",
    ),
    Status(
        "truncated",
        "content",
        "The file ends too early.",
        "the file ends before the picture does, so its upload was probably cut off",
    ),
    Status(  # by the header, against decode.max_pixels
        "too_many_pixels",
        "content",
        "The image has more pixels than allowed.",
        "the picture has too many pixels",
    ),
    Status(  # by the header, against decode.min_side_px
        "too_small",
        "content",
        "The image has too few pixels to be judged.",
        "the picture is too small to tell what it shows",
    ),
    Status(
        "decode_failed",
        "content",
        "The file looks like an image, but could not be decoded.",
        "the file is damaged and cannot be opened",
    ),
    Status(  # decode.timeout_s of the decoder's own CPU time
        "decode_timeout",
        "content",
        "Decoding the file took longer than allowed.",
        "the file takes too long to open",
    ),
    Status(  # a multiple of decode.timeout_s went by, and the decoder had not had its CPU time
        "busy",
        "transient",
        "Decoding did not end on a machine that was too busy.",
        "the file could not be opened in time",
    ),
    Status(  # decode.max_memory_bytes
        "out_of_memory",
        "content",
        "Decoding the file took more memory than allowed.",
        "the picture takes too much memory to open",
    ),
    Status(  # the decoder died on it, twice
        "crashed",
        "content",
        "Decoding the file ended the process that tried.",
        "the file is damaged so badly that it breaks the program that opens it",
    ),
)

STATUSES = tuple(status.name for status in _ALL)
DELAYED = ("bad_answer", "busy")  # tried again after days, the other transient ones in each run
DOUBTFUL = ("not_an_image", "truncated", "decode_failed")  # unless the answer was a sound one
CONTENT = tuple(status.name for status in _ALL if status.failure_class == "content")
TRANSIENT = tuple(name for name in STATUSES[1:] if name not in (*CONTENT, *DELAYED))
FAILURE_CLASSES = {status.name: status.failure_class for status in _ALL if status.failure_class}
MEANINGS = {status.name: status.meaning for status in _ALL if status.meaning}
CAUSES = {status.name: status.cause for status in _ALL if status.cause}
