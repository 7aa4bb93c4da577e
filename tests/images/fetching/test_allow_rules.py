"""Allow rules: valid lines of `fetch.allow`, allowed URLs, and addresses that may be dialled."""

from __future__ import annotations

from pathlib import Path

import pytest
from yarl import URL

from toiletspark.config import Fetch, allowed_places, loading
from toiletspark.errors import ConfigError
from toiletspark.images.fetching.allow_rules import AllowRules
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.ip_addresses import Networks

PUBLIC = Networks([])


def loaded(*sets: str) -> Fetch:
    return loading.load([], sets).fetch


def check(url: str, *allow: str, networks: Networks = PUBLIC, of_shards: bool = False) -> str:
    """ "ok", or what became of the URL."""
    rules = AllowRules(allow, networks, for_shards=of_shards)
    try:
        location = rules.check(url)
        if location.scheme in ("http", "https"):
            rules.check_url(URL(location.path))
    except FetchError as failure:
        assert not failure.retryable
        return f"{failure.status} {failure.detail}"
    return "ok"


# Lines of fetch.allow


@pytest.mark.parametrize(
    "line",
    [
        *(
            "https://img.example.com/",
            "https://img.example.com",
            "https://*",
            "https://*.example.com/photos/",
        ),
        *(
            "http://10.1.2.3:8080/",
            "https://[2606:4700::1]/",
            "s3://photos/2024/",
            "s3://*",
            "gs://*",
            "abfss://*",
        ),
        *(
            "abfss://photos@account.dfs.core.windows.net/",
            "/photos",
            "hdfs://name/photos",
            "hdfs:///photos/",
        ),
    ],
)
def test_what_a_line_may_be(line: str) -> None:
    assert loaded(f'fetch.allow=["{line}"]').allow == [line]
    assert allowed_places.parse(line).path.endswith("/")


@pytest.mark.parametrize(
    "line",
    [
        *(
            "",
            "*",
            "https://",
            "https://*example.com/",
            "https://a.*.com/",
            "https://user@img.example.com/",
        ),
        *(
            "https://img.example.com/?a=b",
            "https://bücher.example/",
            "https://a/../b",
            "file:photos",
            "data:/",
        ),
        *(
            "local://photos",
            "tar://a::s3://photos/",
            "hdfs://*",
            "ftp://*",
            "s3://a:b/",
            "https:\\\\\\\\a",
        ),
    ],
)
def test_what_a_line_may_not_be(line: str) -> None:
    with pytest.raises(ConfigError, match=r"fetch\.allow"):
        loaded(f'fetch.allow=["{line}"]')


def test_a_folder_is_made_absolute_where_the_command_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert loaded('fetch.allow=["photos/", "file:///x/y"]').allow == [f"{tmp_path}/photos/", "/x/y"]


@pytest.mark.parametrize(
    ("prefix", "folder"),
    [
        ("/photos/", "/photos/"),
        ("/photos/a-", "/photos/"),
        ("http://img.example.com/a/", "http://img.example.com/a/"),
        ("https://img.exam", None),
        ("https://user:word@img.example.com/", None),
        ("", None),
    ],
)
def test_the_folder_of_the_prefix_is_allowed(prefix: str, folder: str | None) -> None:
    base = loaded().allow
    config = loading.load([], [f"images.url_prefix={prefix}"])
    assert config.fetch.allow == base + ([folder] if folder else [])
    assert type(config).model_validate(config.resolved()).fetch == config.fetch  # once is enough


def test_networks_are_networks() -> None:
    assert loaded('fetch.allow_private=["10.0.0.0/8", "::1/128"]').allow_private == [
        "10.0.0.0/8",
        "::1/128",
    ]
    with pytest.raises(ConfigError, match="allow_private"):
        loaded('fetch.allow_private=["10.0.0.1/8"]')


@pytest.mark.parametrize(
    "option", ["headers.Authorization", "client_kwargs.headers.X-Key", "headers.Cookie"]
)
def test_what_is_secret_does_not_go_to_any_host(option: str) -> None:
    secret = f'fetch.storage_options.http.{option}="s3cr3t"'
    with pytest.raises(ConfigError, match="name the hosts") as error:
        loading.load([], [secret.replace("s3cr3t", "${TS_SECRET:-s3cr3t-token}")])
    assert "s3cr3t-token" not in str(error.value).replace("${TS_SECRET:-s3cr3t-token}", "")
    loaded(secret, 'fetch.allow=["https://img.example.com/", "s3://*"]')
    loaded('fetch.storage_options.http.headers.User-Agent="toiletspark"')


@pytest.mark.parametrize(
    "option", ['headers="a"', "headers=1", 'client_kwargs="a"', "client_kwargs.headers=[1]"]
)
def test_http_options_are_tables(option: str) -> None:
    with pytest.raises(ConfigError, match="are tables"):
        loaded(f"fetch.storage_options.http.{option}")


# URLs


@pytest.mark.parametrize(
    ("url", "allow", "outcome"),
    [
        ("https://img.example.com/a.jpg?sig=x%2F", "https://*", "ok"),
        ("HTTPS://IMG.example.com./a b.jpg", "https://img.example.com/", "ok"),
        ("https://bücher.example/a.jpg", "https://xn--bcher-kva.example/", "ok"),
        ("https://8.8.8.8/a.jpg", "https://*", "ok"),
        ("https://[2606:4700:0::1]/a.jpg", "https://[2606:4700::1]/", "ok"),
        ("https://example.com:8443/a.jpg", "https://*", "ok"),
        ("https://img.example.com:8443/a.jpg", "https://img.example.com/", "refused host"),
        ("http://img.example.com/a.jpg", "https://*", "refused scheme"),
        ("https://example.com/a.jpg", "https://*.example.com/", "refused host"),
        ("https://a.b.example.com/a.jpg", "https://*.example.com/", "ok"),
        ("https://notexample.com/a.jpg", "https://*.example.com/", "refused host"),
        ("https://img.example.com.evil.example/a", "https://img.example.com/", "refused host"),
        ("https://img.example.com@evil.example/a", "https://*", "refused url"),
        ("https://evil.example\\@img.example.com/a", "https://*", "refused url"),
        ("https:///a.jpg", "https://*", "bad_url neither a URL nor a path"),
        ("https://a..b/a.jpg", "https://*", "refused host"),
        ("https://img.example.com/a/x.jpg", "https://img.example.com/a/", "ok"),
        ("https://img.example.com/ab.jpg", "https://img.example.com/a/", "refused path"),
        ("https://img.example.com/a/../b.jpg", "https://img.example.com/a/", "refused path"),
        ("https://img.example.com/a/%2e%2e/b.jpg", "https://img.example.com/a/", "refused path"),
        ("https://img.example.com/a/..%2Fb.jpg", "https://img.example.com/a/", "refused path"),
        ("https://img.example.com/a/..;/b.jpg", "https://img.example.com/a/", "refused path"),
        ("https://img.example.com/a/.;x=y/b.jpg", "https://img.example.com/a/", "refused path"),
        (
            "https://img.example.com/a/%2e%2e;a=b/b.jpg",
            "https://img.example.com/a/",
            "refused path",
        ),
        ("https://img.example.com/a/..%3bx/b.jpg", "https://img.example.com/a/", "refused path"),
        (
            "https://img.example.com/a/%252e%252e/b.jpg",
            "https://img.example.com/a/",
            "refused path",
        ),
        (
            "https://img.example.com/a/%252e%252e%255cb.jpg",
            "https://img.example.com/a/",
            "refused path",
        ),
        (
            "https://img.example.com/a/%25252e%25252e%252fb.jpg",
            "https://img.example.com/a/",
            "refused path",
        ),
        ("https://img.example.com/a/100%25;v=2/..b/c...jpg", "https://img.example.com/a/", "ok"),
        ("https://127.0.0.1/a.jpg", "https://127.0.0.1/", "refused address"),
        ("https://0x7f.1/a.jpg", "https://*", "refused host"),
        ("s3://photos/2024/a.jpg", "s3://photos/2024/", "ok"),
        ("s3a://photos/2024/a.jpg", "s3://*", "ok"),
        ("s3://photos/2025/a.jpg", "s3://photos/2024/", "refused path"),
        ("s3://photos/2024/../2025/a.jpg", "s3://photos/2024/", "refused path"),
        ("s3://photos/../other/a.jpg", "s3://*", "refused path"),
        ("s3:///photos/a.jpg", "s3://*", "refused host"),
        ("s3://arn:aws:s3:eu:1:accesspoint/x/a.jpg", "s3://*", "refused host"),
        ("s3://a@b/c", "s3://*", "refused host"),
        ("s3://photos/a::file:///etc/hostname", "s3://*", "refused url"),
        ("gcs://photos/a.jpg", "gs://photos/", "ok"),
        ("abfss://photos@account.dfs.core.windows.net/a.jpg", "abfss://*", "ok"),
        ("abfss://photos@169.254.169.254/a.jpg", "abfss://*", "refused host"),
        ("/photos/a.jpg", "https://*", "refused path"),
        ("/etc/hostname", "/photos/", "refused path"),
        ("/photos/../etc/hostname", "/photos/", "refused path"),
        ("/photos2/a.jpg", "/photos", "refused path"),
        ("/photos/a::b.jpg", "/photos", "ok"),
        ("file:///photos/a.jpg", "/photos/", "ok"),
        ("file://host/photos/a.jpg", "/photos/", "refused scheme"),
        ("/photos/a\nb.jpg", "/photos/", "refused url"),
        ("file:/photos/a.jpg", "/photos/", "ok"),
        ("FILE://localhost/photos/a.jpg", "/photos/", "ok"),
        ("file:////photos/a.jpg", "/photos/", "ok"),
        ("file:/etc/hostname", "/photos/", "refused path"),
        ("file://localhost/photos/%2e%2e/etc/hostname", "/photos/", "refused path"),
        ("file://localhost.example/photos/a.jpg", "/photos/", "refused scheme"),
        ("photos/a.jpg", "/", "bad_url neither a URL nor a path"),
        ("//host/photos/a.jpg", "/", "bad_url neither a URL nor a path"),
        ("C:\\photos\\a.jpg", "/", "bad_url neither a URL nor a path"),
        ('"https://img.example.com/a.jpg"', "https://*", "bad_url neither a URL nor a path"),
        ('["https://img.example.com/a.jpg"]', "https://*", "bad_url neither a URL nor a path"),
        ("img.example.com/a.jpg", "https://*", "bad_url neither a URL nor a path"),
        ("12345", "https://*", "bad_url neither a URL nor a path"),
    ],
)
def test_a_url_is_check(url: str, allow: str, outcome: str) -> None:
    assert check(url, allow) == outcome


@pytest.mark.parametrize(
    ("url", "allow", "outcome"),
    [
        ("https://img.example.com/1.tar", "https://*", "refused shard"),
        ("https://img.example.com/photos/1.tar", "https://*/photos/", "refused shard"),
        ("https://img.example.com/1.tar", "https://*/photos/", "refused path"),
        ("https://img.example.com:8443/1.tar", "https://*:8443/", "refused shard"),
        ("https://img.example.com/1.tar", "https://*.example.com/", "ok"),
        ("https://img.example.com/1.tar", "https://img.example.com/", "ok"),
        ("https://8.8.8.8/1.tar", "https://8.8.8.8/", "ok"),
        ("s3://photos/1.tar", "s3://*", "refused shard"),
        ("s3://photos/1.tar", "s3://photos/", "ok"),
        ("abfss://photos@account.dfs.core.windows.net/1.tar", "abfss://*", "refused shard"),
        ("hdfs:///photos/1.tar", "hdfs:///photos/", "ok"),
        ("/photos/1.tar", "/photos/", "ok"),
    ],
)
def test_a_shard_must_lie_where_a_line_names_host_or_bucket(
    url: str, allow: str, outcome: str
) -> None:
    assert check(url, allow, of_shards=True) == outcome


def test_links_are_followed_before_a_path_is_check(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a")
    (tmp_path / "photos" / "inside").symlink_to("a.jpg")
    (tmp_path / "photos" / "outside").symlink_to("../secret.jpg")
    (tmp_path / "photos" / "up").symlink_to("..")
    (tmp_path / "by-another-name").symlink_to("photos")
    result = {
        name: check(f"{tmp_path}/photos/{name}", f"{tmp_path}/by-another-name/")
        for name in ("inside", "a.jpg")
    }
    result |= {
        name: check(f"{tmp_path}/photos/{name}", f"{tmp_path}/photos")
        for name in ("outside", "up/secret.jpg")
    }
    assert list(result.values()) == ["ok", "ok", "refused path", "refused path"]


# Addresses


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"]
)
def test_what_is_public_may_be_dialled(address: str) -> None:
    assert PUBLIC.may_dial(address)


@pytest.mark.parametrize(
    "address", ["", "a", "1", "fe80::1%eth0", "2606:4700::1%1", "127.1", "010.0.0.1"]
)
def test_what_is_no_plain_address_may_not(address: str) -> None:
    assert not Networks(["0.0.0.0/0", "::/0"]).may_dial(address)


def test_private_networks_are_open_where_they_are_named() -> None:
    house = Networks(["10.20.0.0/16", "fd00::/8"])
    named = ["10.20.3.4", "::ffff:10.20.3.4", "64:ff9b::10.20.3.4", "fd00::1"]
    other = ["10.21.0.1", "127.0.0.1", "2002:0a14:304::", "::10.20.3.4", "fe80::1"]
    assert [one for one in named + other if house.may_dial(one)] == named
    assert check("http://10.20.3.4/a.jpg", "http://*", networks=house) == "ok"
    assert check("http://10.21.3.4/a.jpg", "http://*", networks=house) == "refused address"
