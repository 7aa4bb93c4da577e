"""Why an image could not be had: a status, a detail, and whether asking again at once may help."""

from __future__ import annotations

import email.utils
import errno
import math
import time
from collections.abc import Mapping
from typing import Any

_STATUS_OF_HTTP = {401: "denied", 403: "denied", 404: "missing", 410: "missing"}
_BUSY = (408, 429)  # "too slow" and "too many": the only ones of 4xx that pass by themselves
_NO_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
_NOT_A_NAME = (ValueError, ImportError)  # also of hosts and schemes
# botocore's, by name, because s3fs need not be installed
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
}


class FetchError(Exception):
    """An image that could not be had.

    Args:
        status: of `statuses.STATUSES`.
        detail: a short code; it never holds a URL, because URLs carry secrets.
        again: whether it may pass within seconds.
        after_s: how long the server wants to be left alone, in seconds.
    """

    def __init__(
        self, status: str, detail: str, *, again: bool = False, after_s: float = 0.0
    ) -> None:
        self.status, self.detail, self.again, self.after_s = status, detail, again, after_s
        super().__init__(detail)


def failure_of(error: Exception) -> FetchError:
    """What it means that a store's client raised `error`; what is unknown counts as transient."""
    if said := _said_by_us(error):
        return said
    name = type(error).__name__
    code, headers = _answer(error)
    if (
        isinstance(error, FileNotFoundError)
        and code is None
        and isinstance(error.__cause__, Exception)
    ):
        return failure_of(
            error.__cause__
        )  # fsspec calls every http file missing whose size it could not learn
    if isinstance(error, _NO_FILE):
        status = "missing"
    elif isinstance(error, PermissionError) or name in _NO_CREDENTIALS:
        status = "denied"
    elif getattr(error, "errno", None) == errno.ELOOP:
        return FetchError("missing", "links in a circle")
    elif code is not None:
        status = _STATUS_OF_HTTP.get(code, "timeout")
    elif isinstance(error, _NOT_A_NAME) or name == "ParamValidationError" or _too_long(error):
        return FetchError("missing", "not a URL that can be opened here")
    else:
        return FetchError("timeout", name, again=True)
    again = code is not None and (code in _BUSY or code >= 500)
    detail = name if code is None else f"http {code}"
    return FetchError(status, detail, again=again, after_s=_seconds(headers.get("retry-after")))


def _said_by_us(error: BaseException | None) -> FetchError | None:
    """Our own word, also where fsspec has made another error of it."""
    while error is not None and not isinstance(error, FetchError):
        error = error.__cause__
    return error


def _answer(error: Exception) -> tuple[int | None, dict[str, str]]:
    """The HTTP status and headers (lower case) behind an error of aiohttp or, through s3fs, of botocore."""
    code, headers = getattr(error, "status", None), getattr(error, "headers", None)
    response: Any = getattr(error.__cause__, "response", None)
    if isinstance(response, Mapping):
        answer = response.get("ResponseMetadata", {})
        code, headers = answer.get("HTTPStatusCode"), answer.get("HTTPHeaders")
    return code if isinstance(code, int) else None, {
        key.lower(): value for key, value in (headers or {}).items()
    }


def _seconds(retry_after: str | None) -> float:
    """The header Retry-After, which is either seconds or a date; 0 if it is neither."""
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        seconds = _until(str(retry_after))
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _until(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except Exception:  # noqa: BLE001 - a stranger wrote it, and absurd numbers raise more than ValueError
        return 0.0


def _too_long(error: Exception) -> bool:
    return getattr(error, "errno", None) == errno.ENAMETOOLONG
