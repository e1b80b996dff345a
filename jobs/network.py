"""How requests leave this machine: proxies and certificates as the environment names them, read here only."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies

from jobs.config import unquoted
from jobs.errors import ConfigError

KINDS = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5", "socks": "socks5"}
"""The schemes of a proxy's URL, and their kinds; GNOME writes `socks://`."""

SHAPE = "It looks like http://user:password@host:port, and a password's special characters are percent-encoded."

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.%]+")
_PORT = re.compile(r"(\[[^]]*\]|[^:]*):(\d+)")
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")


@dataclass(frozen=True, slots=True)
class Network:
    """Proxies by the scheme of a URL, hosts that bypass them, and certificates (None: the default ones)."""

    proxies: Mapping[str, str] = field(repr=False)
    direct: tuple[str, ...]
    tls: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def load(cls) -> Self:
        """Read the environment; ConfigError with a sentence that names the variable."""
        named = {kind: unquoted(value) for kind, value in getproxies().items()}
        direct = tuple(re.split(r"[\s,]+", named.get("no", "").strip().lower()))
        proxies = {} if "*" in direct else dict(_proxies(named))
        file, folder = (unquoted(os.environ.get(name, "")) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
        return cls(proxies, tuple(filter(None, direct)), _tls(file, folder))

    def proxy_for(self, scheme: str, host: str, port: int | None) -> str | None:
        """The proxy of a URL with this scheme, host and port (None: the scheme's); None when it needs none."""
        host, port = host.lower().strip("[]").rstrip("."), port or (443 if scheme == "https" else 80)
        if any(_matches(entry, host, port) for entry in self.direct):
            return None
        return self.proxies.get(scheme)

    def shown(self) -> str:
        """Which proxies are used, without their passwords."""
        parts = {scheme: urlsplit(proxy) for scheme, proxy in self.proxies.items()}
        through = [f"{scheme}:// through {it.scheme}://{it.netloc.rpartition('@')[2]}" for scheme, it in parts.items()]
        past = f", but not {', '.join(self.direct)}" if through and self.direct else ""
        return (", ".join(through) or "no proxy") + past


def _proxies(named: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for scheme in ("https", "http"):
        kind = scheme if named.get(scheme) else "all"
        if value := named.get(kind):
            yield scheme, _proxy(_variable(kind), value)


def _variable(kind: str) -> str:
    """The variable that names the proxy, as it is spelled; as urllib, the one in small letters comes first."""
    spelled = (name for name in os.environ if name.lower() == f"{kind}_proxy" and os.environ[name])
    return max(spelled, default=f"The system's {kind} proxy")


def _proxy(variable: str, value: str) -> str:
    scheme, mark, rest = value.strip().partition("://")
    scheme, rest = (scheme.lower(), rest) if mark else ("http", scheme)
    if _SCHEME.fullmatch(scheme) and scheme not in KINDS:
        raise ConfigError(
            f"{variable} names a proxy by {scheme}://, which is not supported. Set it to http://host:port, "
            "https://host:port or socks5://host:port, or unset it."
        )
    try:
        parts = urlsplit(f"{KINDS[scheme]}://{rest}")
        port = parts.port
    except (KeyError, ValueError):
        raise ConfigError(f"{variable} cannot be read. {SHAPE}") from None
    host = parts.hostname or ""
    if not _HOST.fullmatch(host) or parts.path.strip("/") or parts.query or "#" in rest:
        raise ConfigError(f"{variable} cannot be read. {SHAPE}")
    login = ":".join(quote(unquote(text), safe="") for text in (parts.username, parts.password) if text is not None)
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{login}{'@' if login else ''}{place}{f':{port}' if port else ''}"


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY matches that host: an address, a network, or a name and all below it."""
    entry = entry.rpartition("://")[2]
    if with_port := _PORT.fullmatch(entry):
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    entry = entry.replace("[", "").replace("]", "")
    with suppress(ValueError):
        return ip_address(host.partition("%")[0]) in ip_network(entry, strict=False)
    name = entry.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


@lru_cache
def _tls(file: str | None, folder: str | None) -> ssl.SSLContext | None:
    """The certificates of SSL_CERT_FILE and SSL_CERT_DIR; reading them takes 25 ms."""
    if not file and not folder:
        return None
    cure = "Correct it, or unset it to use the usual certificates."
    if folder and not file and not any(map(_has_certificates, folder.split(os.pathsep))):
        raise ConfigError(f"SSL_CERT_DIR: {folder} holds no certificates under hashed names (c_rehash). {cure}")
    try:
        return ssl.create_default_context(cafile=file, capath=folder)
    except ssl.SSLError:
        raise ConfigError(f"SSL_CERT_FILE: {file} holds no certificates in PEM form. {cure}") from None
    except OSError as error:
        raise ConfigError(f"SSL_CERT_FILE: {file} cannot be read: {error.strerror or error}. {cure}") from None


def _has_certificates(folder: str) -> bool:
    with suppress(OSError):
        return any(_HASHED.fullmatch(path.name) for path in Path(folder).iterdir())
    return False
