"""`data:` URIs (RFC 2397): small files that lie inside a prediction's JSON."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

DEFAULT_MEDIA_TYPE = "text/plain;charset=US-ASCII"
_HEAD = re.compile(
    r"""data:(?P<type>[\w.+-]+/[\w.+-]+)?(?P<parameters>(?:;[ ]?[^;,\s"=]+(?:=(?:"[^"]*"|[^;,\s"]*))?)*),""",
    re.ASCII | re.IGNORECASE,
)
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True)
class DataUri:
    """A decoded `data:` URI; `content_type` carries its parameters, `head` is the text before the bytes."""

    head: str
    content_type: str
    content: bytes


def parse(text: str) -> DataUri | None:
    """Decode base64 or percent-encoded content; None for what is no `data:` URI, broken base64 included.

    Lenient as browsers are: missing padding, white space and the URL-safe alphabet are accepted.
    """
    match = _HEAD.match(text)
    if not match:
        return None
    payload, parameters = text[match.end() :], match["parameters"]
    without_base64 = re.sub(r";\s?base64$", "", parameters, flags=re.IGNORECASE)
    encoded = without_base64 != parameters
    content = _decode_base64(payload) if encoded else unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))
    if content is None:
        return None
    media_type = match["type"] or ("text/plain" if without_base64 else DEFAULT_MEDIA_TYPE)
    return DataUri(match[0], f"{media_type}{without_base64}", content)


def _decode_base64(payload: str) -> bytes | None:
    plain = unquote(payload) if "%" in payload else payload
    digits = "".join(plain.split()).rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return None
