"""A certificate that does not hold is a failure that passes, so that last decisions stand."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import literal_config
from tests.support.quiet_server import QuietHandler
from toiletspark.images import statuses
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.images.fetching.failures import failure_of

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Sound(QuietHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"here")


Key = ec.EllipticCurvePrivateKey
ROOT, LEAF = (
    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("root", "leaf")
)


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def unsigned(
    issuer: x509.Name, subject: x509.Name, key: Key, start: datetime, end: datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(start).not_valid_after(end)


class Authority:
    """Issues certificates; `trusting` is a client's context that trusts it alone."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._key = folder, new_key()
        root = unsigned(ROOT, ROOT, self._key, NOW - 9 * DAY, NOW + 9 * DAY)
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        pem = root.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / "root.pem").write_bytes(pem)
        self.trusting = ssl.create_default_context(cafile=str(folder / "root.pem"))

    def serving(
        self, name: str, start: datetime, end: datetime, *, signs_itself: bool = False
    ) -> ssl.SSLContext:
        """A server's context with a certificate for a host's name."""
        key = new_key()
        builder = unsigned(LEAF if signs_itself else ROOT, LEAF, key, start, end)
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
        made = builder.sign(key if signs_itself else self._key, hashes.SHA256())
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file = self._folder / "leaf.pem"
        file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@contextmanager
def server(context: ssl.SSLContext) -> Iterator[int]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Sound)
    made.socket = context.wrap_socket(made.socket, server_side=True)
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made.server_port
    made.shutdown()
    made.server_close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def fetched(port: int, authority: Authority) -> Fetched:
    limits = literal_config({"fetch.retries": 3, "fetch.first_wait_s": 0.01}).fetch
    options = {"http": {"ssl": authority.trusting}}
    limits = limits.model_copy(update={"storage_options": options})
    return Fetcher(limits).start(f"https://localhost:{port}/a.jpg").result()


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (lambda made: made.serving("localhost", NOW - 3 * DAY, NOW - DAY), "has expired"),
        (lambda made: made.serving("localhost", NOW + DAY, NOW + 3 * DAY), "not yet valid"),
        (
            lambda made: made.serving("localhost", NOW - DAY, NOW + DAY, signs_itself=True),
            "self-signed",
        ),
        (lambda made: made.serving("other.example", NOW - DAY, NOW + DAY), "Hostname mismatch"),
    ],
    ids=["expired", "too new", "self-signed", "of another name"],
)
def test_a_certificate_that_does_not_hold_is_transient(
    authority: Authority, context: Callable[[Authority], ssl.SSLContext], reason: str
) -> None:
    with server(context(authority)) as port:
        result = fetched(port, authority)
    assert statuses.FAILURE_CLASSES[result.status] == "transient"
    assert result.detail.startswith("certificate: ")
    assert reason in result.detail
    assert "tries" not in result.detail
    assert "localhost" not in result.detail


def test_one_that_holds_is_taken(authority: Authority) -> None:
    with server(authority.serving("localhost", NOW - DAY, NOW + DAY)) as port:
        assert fetched(port, authority).content == b"here"


class OddError(ValueError, FileNotFoundError, PermissionError):
    """Descends from every class that has a status of its own."""


@pytest.mark.parametrize(
    "error", [OddError(), ValueError(), ImportError(), ssl.SSLError(), aiohttp.ClientError()]
)
def test_an_unknown_class_is_transient_whatever_it_descends_from(error: Exception) -> None:
    assert failure_of(error).status == "timeout"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (FileNotFoundError(), "missing"),
        (NotADirectoryError(), "missing"),
        (PermissionError(), "denied"),
        (aiohttp.InvalidURL("http://["), "bad_url"),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, ""), "bad_url"),
    ],
)
def test_known_classes_have_their_status(error: Exception, status: str) -> None:
    assert failure_of(error).status == status
