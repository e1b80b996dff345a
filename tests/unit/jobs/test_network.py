from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.errors import ConfigError
from jobs.network import Network

CERTIFICATE = Path(__file__).parents[2] / "integration" / "localhost.pem"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **named: str) -> Network:
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    return Network.load()


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("http://proxy:8080", "http://proxy:8080"),
        ("http://proxy:8080/", "http://proxy:8080"),
        ("proxy:8080", "http://proxy:8080"),
        ("proxy", "http://proxy"),
        ("HTTPS://Proxy.Example:443", "https://proxy.example:443"),
        ("socks5://127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ("socks5h://127.0.0.1:1080", "socks5://127.0.0.1:1080"),
        ("socks://127.0.0.1:1080/", "socks5://127.0.0.1:1080"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("http://me:p@ss@proxy:8080", "http://me:p%40ss@proxy:8080"),
        ("http://me:p%40ss@proxy:8080", "http://me:p%40ss@proxy:8080"),
        (" http://proxy:8080\r\n", "http://proxy:8080"),
        ('"http://proxy:8080"', "http://proxy:8080"),
    ],
)
@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy"])
def test_a_proxy_in_any_form(monkeypatch: pytest.MonkeyPatch, name: str, value: str, proxy: str) -> None:
    network = load(monkeypatch, **{name: value})
    assert network.proxy_for("https", "api.replicate.com", None) == proxy
    assert network.proxy_for("http", "localhost", 5555) == proxy


def test_each_kind_of_url_has_its_proxy_and_small_letters_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(
        monkeypatch, HTTPS_PROXY="large:1", https_proxy="small:1", HTTP_PROXY="plain:1", ALL_PROXY="socks4://all:1"
    )
    assert network.proxy_for("https", "api.replicate.com", None) == "http://small:1"
    assert network.proxy_for("http", "api.replicate.com", None) == "http://plain:1"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("socks4://proxy:1080", "by socks4://, which is not supported"),
        ("ftp://proxy:21", "by ftp://, which is not supported"),
        ("http://", "cannot be read"),
        ("http://proxy:port", "cannot be read"),
        ("http://proxy:99999", "cannot be read"),
        ("http://me:secret#1@proxy:8080", "percent-encoded"),
        ("http://me:secret/1@proxy:8080", "percent-encoded"),
        ("http://me:secret?1@proxy:8080", "percent-encoded"),
        ("me:secret://1@proxy", "cannot be read"),
        ('"http://me:secret@proxy:8080', "cannot be read"),
        ("http://me:secret@[::1:8080", "cannot be read"),
    ],
)
def test_a_proxy_that_is_none_is_named_and_its_password_is_not(
    monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        load(monkeypatch, HTTPS_PROXY=value)
    assert str(caught.value).startswith("HTTPS_PROXY ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("no_proxy", "scheme", "host", "port", "direct"),
    [
        ("*", "https", "api.replicate.com", None, True),
        ("localhost, *", "https", "api.replicate.com", None, True),
        ("replicate.com", "https", "api.replicate.com", None, True),
        (".replicate.com", "https", "api.replicate.com", None, True),
        ("*.replicate.com", "https", "api.replicate.com", None, True),
        ("*replicate.com", "https", "api.replicate.com", None, True),
        ("API.Replicate.com", "https", "api.replicate.com", None, True),
        ("plicate.com", "https", "api.replicate.com", None, False),
        ("api.replicate.com:443", "https", "api.replicate.com", None, True),
        ("api.replicate.com:8443", "https", "api.replicate.com", None, False),
        ("localhost 127.0.0.1", "http", "127.0.0.1", 5555, True),
        ("localhost,127.0.0.1:5555", "http", "127.0.0.1", 5555, True),
        ("127.0.0.0/8", "http", "127.0.0.1", 5555, True),
        ("10.0.0.0/8", "http", "127.0.0.1", 5555, False),
        ("10.0.0.0/99", "http", "10.0.0.1", None, False),
        ("::1", "http", "::1", None, True),
        ("[::1]", "http", "::1", 5555, True),
        ("[::1]:5555", "http", "::1", 5555, True),
        ("[::1]:5555", "http", "::1", 5556, False),
        ("fe80::/10", "http", "fe80::1%eth0", None, True),
        ("fe80::/10,10.0.0.0/8", "http", "10.1.2.3", None, True),
        ("[", "http", "localhost", None, False),
        (" ", "http", "localhost", None, False),
    ],
)
def test_what_no_proxy_means(
    monkeypatch: pytest.MonkeyPatch,
    no_proxy: str,
    scheme: str,
    host: str,
    port: int | None,
    *,
    direct: bool,
) -> None:
    network = load(monkeypatch, ALL_PROXY="socks5://proxy:1080", NO_PROXY=no_proxy)
    assert (network.proxy_for(scheme, host, port) is None) == direct


def test_proxies_are_shown_without_their_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch).shown() == "no proxy"
    network = load(monkeypatch, HTTPS_PROXY="http://me:secret@proxy:8080", NO_PROXY="localhost,::1")
    assert network.shown() == "https:// through http://proxy:8080, but not localhost, ::1"
    assert "secret" not in repr(network)


def test_certificates_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load(monkeypatch).tls is None
    assert load(monkeypatch, SSL_CERT_FILE="", SSL_CERT_DIR="").tls is None
    assert load(monkeypatch, SSL_CERT_FILE=f'"{CERTIFICATE}"', SSL_CERT_DIR=str(tmp_path)).tls is not None
    (tmp_path / "0123abcd.0").write_bytes(CERTIFICATE.read_bytes())
    places = f"{tmp_path / 'missing'}{os.pathsep}{tmp_path}"
    assert load(monkeypatch, SSL_CERT_FILE="", SSL_CERT_DIR=places).tls is not None


def test_certificates_that_are_none_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    (tmp_path / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n")
    for name in ("missing.pem", "empty.pem", "broken.pem", "."):
        with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: .*(cannot be read|no certificates)"):
            load(monkeypatch, SSL_CERT_FILE=str(tmp_path / name))
    monkeypatch.delenv("SSL_CERT_FILE")
    for name in ("missing", "empty.pem", "."):
        with pytest.raises(ConfigError, match=r"SSL_CERT_DIR: .*c_rehash"):
            load(monkeypatch, SSL_CERT_DIR=str(tmp_path / name))
