"""Why an image could not be fetched: a status, a detail, and whether a retry at once may help."""

import email.utils
import errno
import math
import ssl
import time
from collections.abc import Mapping
from typing import Any

_STATUS_OF_HTTP = {401: "denied", 403: "denied", 404: "missing", 410: "missing"}
_BUSY = (408, 429)  # too slow, too many requests: the only ones of 4xx that pass by themselves
# By name, because s3fs need not be installed; never by ancestry: aiohttp's error for a certificate
# descends from ValueError. A class that is not here is transient, and last decisions stand.
_STATUS_OF_CLASS = {
    "FileNotFoundError": "missing",
    "IsADirectoryError": "missing",
    "NotADirectoryError": "missing",
    "PermissionError": "denied",
    "NoCredentialsError": "denied",
    "PartialCredentialsError": "denied",
    "CredentialRetrievalError": "denied",
    "TokenRetrievalError": "denied",
    "InvalidURL": "bad_url",
    "InvalidUrlClientError": "bad_url",
    "ParamValidationError": "bad_url",  # of botocore: no bucket is named like this
    "UnicodeEncodeError": "bad_url",
}
_OF_NUMBER = {
    errno.ELOOP: ("missing", "links in a circle"),
    errno.ENAMETOOLONG: ("bad_url", "a name that is too long"),
}


class FetchError(Exception):
    """An image that could not be fetched; its status is one of `statuses.STATUSES`.

    The detail is a short code that never holds a URL, because URLs carry secrets. A retryable
    failure may pass within seconds; `retry_after_s` is the pause that the server asks for.
    """

    def __init__(
        self, status: str, detail: str, *, retryable: bool = False, retry_after_s: float = 0.0
    ) -> None:
        self.status, self.detail = status, detail
        self.retryable, self.retry_after_s = retryable, retry_after_s
        super().__init__(detail)


def no_url() -> FetchError:
    """Returns the failure of a location that is neither a URL nor a path."""
    return FetchError("bad_url", "neither a URL nor a path")


def failure_of(error: Exception) -> FetchError:
    """Returns the failure behind a store client's error; unknown errors count as transient."""
    own: BaseException | None = error
    while own is not None and not isinstance(own, FetchError):  # fsspec may have wrapped it
        own = own.__cause__
    if own is not None:
        return own
    name, code, headers = type(error).__name__, *_http_response(error)
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and code is None and isinstance(cause, Exception):
        return failure_of(cause)  # fsspec raises it for any http file whose size it cannot learn
    if code is not None and name not in _STATUS_OF_CLASS:  # s3fs has translated some answers
        pause_s = _seconds(headers.get("retry-after"))
        status, retryable = _STATUS_OF_HTTP.get(code, "timeout"), code in _BUSY or code >= 500
        return FetchError(status, f"http {code}", retryable=retryable, retry_after_s=pause_s)
    if certificate := _certificate_error(error):
        return FetchError("timeout", f"certificate: {certificate}")
    if isinstance(error, OSError) and error.errno in _OF_NUMBER:
        return FetchError(*_OF_NUMBER[error.errno])
    status = _STATUS_OF_CLASS.get(name, "timeout")
    detail = name if code is None else f"http {code}"
    return FetchError(status, detail, retryable=status == "timeout")


def _certificate_error(error: Exception) -> str:
    """OpenSSL's words for what is wrong with a certificate, without names of hosts; "" if none."""
    reason = getattr(error, "certificate_error", error)
    if not isinstance(reason, ssl.SSLCertVerificationError):
        return ""
    return str(reason.verify_message).partition(",")[0]


def _http_response(error: Exception) -> tuple[int | None, dict[str, str]]:
    """Status and headers (lower case) behind an error of aiohttp or, through s3fs, of botocore."""
    code, headers = getattr(error, "status", None), getattr(error, "headers", None)
    response: Any = getattr(error.__cause__, "response", None)
    if isinstance(response, Mapping):
        metadata = response.get("ResponseMetadata", {})
        code, headers = metadata.get("HTTPStatusCode"), metadata.get("HTTPHeaders")
    lower = {key.lower(): value for key, value in (headers or {}).items()}
    return code if isinstance(code, int) else None, lower


def _seconds(retry_after: str | None) -> float:
    """Parses the header Retry-After, which holds seconds or a date; 0 for anything else."""
    try:
        seconds = float(retry_after or 0)
    except ValueError:
        seconds = _seconds_until(str(retry_after))
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _seconds_until(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except Exception:  # noqa: BLE001 - servers write absurd numbers
        return 0.0
