"""Which strings of an output are files, and from which hosts they may be fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import httpx

from jobs.errors import FileRefused
from worker.outputs import data_uri
from worker.outputs.media_types import names_a_file

_LONGEST = 8192
_ANY_URL = re.compile(r"https?://(?P<host>[^\s/?#@]+)/(?P<path>[^?#\r\n]*)([?#]\S*)?", re.IGNORECASE)
_STORE = re.compile(
    r"(^|\.)(storage\.googleapis\.com|amazonaws\.com|blob\.core\.windows\.net|r2\.dev|r2\.cloudflarestorage\.com"
    r"|cloudfront\.net|digitaloceanspaces\.com|backblazeb2\.com|replicate\.delivery)(:\d+)?$",
    re.IGNORECASE,
)
_SIGNED = re.compile(r"[?&](x-goog-signature|x-amz-signature|signature|sig|expires)=", re.IGNORECASE)
_NO_URL = re.compile(r"[\s\x00-\x1f\x7f\\]")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*")


def is_output(value: Any, hosts: Sequence[str]) -> bool:
    """Whether a value of an output is a file: a URL that may be fetched, or a `data:` URI that decodes.

    All else is text: a chat answer that begins with "https:", an unlisted host, broken base64.
    """
    if not isinstance(value, str):
        return False
    scheme = value[:6].lower()
    if scheme.startswith("data:"):
        return data_uri.parse(value) is not None
    return scheme.startswith(("https:", "http:")) and _refusal(value, hosts) is None


def looks_like_file(text: str) -> bool:
    """Whether a text that `is_output` rejects is a file's URL nevertheless: on another host, or misspelt."""
    match = _ANY_URL.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return False
    kept = not _NO_URL.search(text) and bool(_STORE.search(match["host"]) or _SIGNED.search(text))
    return kept or names_a_file(match["path"])


def check_output_url(url: str, hosts: Sequence[str]) -> httpx.URL:
    """Return the URL, parsed; raise FileRefused unless it is https on a listed host, or http on a listed loopback host.

    `hosts` are names in lower case; `*.name` stands for its subdomains only. Only a loopback host may have a port.
    """
    if reason := _refusal(url, hosts):
        raise FileRefused(f"{url[:200]} is not fetched: {reason}", url)
    return _parsed(_without_blanks(url))


def _without_blanks(url: str) -> str:
    """A file's name may have blanks that its host forgot to encode; a sentence that begins with a URL is none."""
    return url.replace(" ", "%20") if " " in url and looks_like_file(url) else url


@lru_cache(256)
def _parsed(url: str) -> httpx.URL:
    """Parsing takes 60 µs, and each URL is looked at twice and then asked for."""
    return httpx.URL(url)


def _refusal(url: str, hosts: Sequence[str]) -> str | None:
    url = _without_blanks(url)
    try:
        parsed = None if _NO_URL.search(url) else _parsed(url)
    except (httpx.InvalidURL, ValueError):
        parsed = None
    if parsed is None or not _HOST.fullmatch(host := parsed.raw_host.decode("ascii")):
        return "it is not a URL"
    if parsed.userinfo:
        return "it carries a user name"
    if not any(_matches(host, listed) for listed in hosts):
        return f"{host} is not an output host"
    return _transport_refusal(parsed, host)


def _transport_refusal(parsed: httpx.URL, host: str) -> str | None:
    if parsed.scheme not in ("https", "http"):
        return "it is not https"
    if _is_loopback(host):
        return None
    if parsed.scheme == "http":
        return "it is not https"
    return None if parsed.port is None else f"port {parsed.port} is not https's"


def _matches(host: str, listed: str) -> bool:
    name = listed.lower()
    return host.endswith(name[1:]) if name.startswith("*.") else host == name.strip("[]")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
