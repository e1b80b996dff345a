from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jobs.config import Config
from jobs.replicate_api.client import api_client
from jobs.replicate_api.direct import PLAIN_PATH

CLIENT = api_client(Config.load(replicate_base_url="http://127.0.0.1:8000"))


@given(st.from_regex(PLAIN_PATH, fullmatch=True))
def test_httpx_asks_for_a_plain_path_as_it_is(path: str) -> None:
    asked = CLIENT.build_request("GET", path).url
    assert (asked.netloc, asked.raw_path) == (b"127.0.0.1:8000", path.encode())
