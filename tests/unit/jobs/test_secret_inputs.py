"""References to secrets in inputs: what they may be, what is sent, and what is masked."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BrokenDownload, InvalidRequest
from jobs.secret_inputs import (
    NO_SECRETS,
    REDACTED,
    Secrets,
    reference_problem,
    reveals_secret,
    secret_keys,
    shown_input,
    with_literals,
    without_keys,
)

SECRETS = Secrets({"OPENAI_API_KEY": "sk-0123456789", "PIN": "1234", "EMPTY": ""})
KEY = {"$env": "OPENAI_API_KEY"}


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (KEY, None),
        ({"$env": "_a1"}, None),
        ({"$env": "A B"}, "the name of an environment variable"),
        ({"$env": ""}, "the name of an environment variable"),
        ({"$env": 7}, "the name of an environment variable"),
        ({"$env": "A", "default": "x"}, "nothing else in it"),
        ({"$env": "REPLICATE_API_TOKEN"}, "never sent"),
        ({"$env": "redis_url"}, "never sent"),
        ({"$env": "BATCH_MODEL"}, "never sent"),
    ],
)
def test_what_a_reference_may_be(value: Any, part: str | None) -> None:
    problem = reference_problem(value)
    assert problem is None if part is None else problem and part in problem


def test_a_reference_is_the_whole_value_of_a_key() -> None:
    assert secret_keys({"a": KEY, "b": [KEY], "c": {"$env": "X", "y": 1}, "d": {"e": KEY}, "prompt": "$env"}) == {"a"}
    assert without_keys({"a": 1, "b": 2}, {"a"}) == {"b": 2}


def test_the_value_is_sent_and_the_reference_kept() -> None:
    values = {"prompt": "cat", "key": KEY}
    assert SECRETS.resolve(values) == {"prompt": "cat", "key": "sk-0123456789"}
    assert values["key"] is KEY


@pytest.mark.parametrize("name", ["OTHER", "EMPTY"])
def test_a_variable_that_is_not_set_is_named(name: str) -> None:
    missing = SECRETS.check({"key": KEY, "other": {"$env": name}})
    assert f"no {name}, which" in str(missing)
    assert SECRETS.check({"key": KEY}) is None


def test_a_variable_that_is_no_text_is_named() -> None:
    foreign = Secrets({"KEY": b"p\xe9ss".decode("utf-8", "surrogateescape"), "OTHER": "pass"})
    assert "KEY is not UTF-8" in str(foreign.check({"key": {"$env": "KEY"}, "other": {"$env": "OTHER"}}))
    assert foreign.check({"other": {"$env": "OTHER"}}) is None


def test_a_secret_is_masked_wherever_it_stands() -> None:
    values = {"key": KEY, "pin": {"$env": "PIN"}}
    raw = {"input": {"key": "sk-0123456789"}, "logs": "using sk-0123456789, 1234 steps", "sk-0123456789": [1, None]}
    assert SECRETS.mask(raw, values) == {
        "input": {"key": "$OPENAI_API_KEY"},
        "logs": "using $OPENAI_API_KEY, 1234 steps",
        "$OPENAI_API_KEY": [1, None],
    }
    assert SECRETS.mask(raw, {"prompt": "no secret"}) is raw


PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"bad key {PEM}", "bad key $KEY"),
        (f"bad key {' '.join(PEM.split())}", "bad key $KEY"),
        ("line 2: MIIEvQIBADANBg", "line 2: $KEY"),
        ("it was cut: kqhkiG9w0…", "it was cut: $KEY…"),
        ("it was cut: kqhkiG9", "it was cut: kqhkiG9"),
    ],
)
def test_a_secret_is_masked_as_messages_quote_it(text: str, masked: str) -> None:
    assert Secrets({"KEY": PEM}).mask(text, {"key": {"$env": "KEY"}}) == masked


def test_a_word_of_a_secret_is_no_secret() -> None:
    passphrase = Secrets({"KEY": "a correct battery-staple"})
    assert passphrase.mask("a battery-staple", {"key": {"$env": "KEY"}}) == "a battery-staple"


def test_a_prediction_shows_the_reference_even_where_the_variable_is_not_set() -> None:
    values, raw = {"pin": {"$env": "PIN"}, "prompt": "a"}, {"input": {"pin": "1234", "prompt": "a"}, "id": "p"}
    for secrets in (SECRETS, Secrets({})):
        assert secrets.mask_prediction(raw, values) == {"input": values, "id": "p"}
    assert SECRETS.mask_prediction(raw, {"prompt": "a"}) is raw


def test_our_own_settings_are_never_sent() -> None:
    with pytest.raises(KeyError):
        Secrets({"REPLICATE_API_TOKEN": "r8_0123456789"}).resolve({"key": {"$env": "REPLICATE_API_TOKEN"}})


def test_an_error_is_masked() -> None:
    error = InvalidRequest("sk-0123456789 is wrong", status=422, fields=[{"field": "sk-0123456789"}])
    SECRETS.mask_error(error, {"key": KEY})
    assert (str(error), error.status, error.fields) == (
        "$OPENAI_API_KEY is wrong",
        422,
        ({"field": "$OPENAI_API_KEY"},),
    )


LITERAL = {"$secret": "hunter2-hunter2"}


def test_a_literal_secret_is_sent_and_not_shown() -> None:
    given = {"prompt": "cat", "key": "hunter2-hunter2", "pin": 7, "none": "", "ref": KEY}
    values = with_literals(given, {"key", "pin", "none", "ref"})
    assert values == {"prompt": "cat", "key": LITERAL, "pin": {"$secret": 7}, "none": "", "ref": KEY}
    assert with_literals(values, values) == values | {"prompt": {"$secret": "cat"}}
    assert secret_keys(values) == {"key", "pin", "ref"}
    assert shown_input(values) == {"prompt": "cat", "key": REDACTED, "pin": REDACTED, "none": "", "ref": KEY}
    sent = SECRETS.resolve(values)
    assert sent == {"prompt": "cat", "key": "hunter2-hunter2", "pin": 7, "none": "", "ref": "sk-0123456789"}
    raw = {"input": dict(sent), "logs": "key hunter2-hunter2 or sk-0123456789", "id": "p"}
    assert SECRETS.mask_prediction(raw, values) == {
        "input": shown_input(values),
        "logs": "key [REDACTED] or $OPENAI_API_KEY",
        "id": "p",
    }
    assert SECRETS.check(values) is None


def test_a_literal_secret_is_hidden_wherever_the_row_repeats_it() -> None:
    values = {
        "prompt": "say hunter2-hunter2",
        "hunter2-hunter2": {"a": ["hunter2-hunter2"]},
        "key": LITERAL,
        "ref": KEY,
    }
    shown = {"prompt": "say [REDACTED]", "hunter2-hunter2": {"a": [REDACTED]}, "key": REDACTED, "ref": KEY}
    assert shown_input(values) == shown
    assert shown_input(values | {"key": {"$secret": "say"}}) == values | {"key": REDACTED}


def test_what_a_row_repeats_of_a_variable_is_shown_alike_in_every_environment() -> None:
    values = {"prompt": "say sk-0123456789", "key": KEY}
    assert shown_input(values) == values


def test_all_texts_of_a_secret_list_are_masked() -> None:
    values = {"keys": {"$secret": ["hunter2-hunter2", {"a": "correct-horse"}]}, "prompt": "say correct-horse"}
    assert shown_input(values) == {"keys": REDACTED, "prompt": f"say {REDACTED}"}
    assert SECRETS.mask("hunter2-hunter2 or correct-horse", values) == f"{REDACTED} or {REDACTED}"


@pytest.mark.parametrize("word", ["succeeded", "completed_at", "complete", "processing", "p1234567", "simulator/x"])
def test_a_secret_like_a_word_of_the_api_changes_no_fact(word: str) -> None:
    raw = {
        "id": "p1234567",
        "status": "succeeded",
        "model": "simulator/x",
        "completed_at": "2026-11-28T08:00:00Z",
        "input": {"completed_at": word},
        "error": f"no {word}",
    }
    masked = SECRETS.mask_prediction(raw, {"completed_at": {"$secret": word}})
    assert masked == raw | {"input": {"completed_at": REDACTED}, "error": f"no {REDACTED}"}


@pytest.mark.parametrize(
    "secret", ['{"type": "account", "key": "a"}', "C:\\keys\\one", "zürich-zürich", "it's a secret"]
)
def test_a_secret_is_masked_as_json_and_python_write_it(secret: str) -> None:
    for written in (json.dumps(secret), json.dumps(secret, ensure_ascii=False)):
        assert SECRETS.mask(f"key={written}", {"key": {"$secret": secret}}) == f'key="{REDACTED}"'
    assert REDACTED in SECRETS.mask(f"key={secret!r}", {"key": {"$secret": secret}})
    assert len(SECRETS.mask(f"key={secret!r}", {"key": {"$secret": secret}})) == len(f"key='{REDACTED}'")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("cat--key-hunter2-hunter2", "hunter2-hunter2"),
        ("cat--key-sk-live-0123456789-abcde-f3a9c1", "sk/live_0123456789=abcdefghijk/lmnopqrs"),
    ],
)
def test_a_name_reveals_a_secret(name: str, secret: str) -> None:
    assert reveals_secret(name, {"key": {"$secret": secret}})
    assert not reveals_secret("cat--key-12", {"key": {"$secret": secret}, "pin": {"$secret": "12"}})


@given(st.text("ab…", max_size=40), st.text("ab", min_size=9, max_size=20))
def test_the_longest_beginning_of_a_secret_at_a_cut_is_masked(text: str, secret: str) -> None:
    values = {"key": {"$secret": secret}}
    whole = text.replace(secret, REDACTED)
    bare = whole.rstrip("… ")
    sizes = [size for size in range(len(secret) - 1, 7, -1) if bare.endswith(secret[:size])]
    cut = f"{bare[: -sizes[0]]}{REDACTED}{whole[len(bare) :]}" if sizes else whole
    assert SECRETS.mask(text, values) == cut


@pytest.mark.parametrize(
    ("output", "masked"),
    [
        (["a ", "hunter2-hunter2"], ["a ", REDACTED]),
        (["it is hunter2", "-", "hunter2."], ["it is [REDACTED]."]),
        (["hunter2", 7, "-hunter2"], ["hunter2", 7, "-hunter2"]),
        ([], []),
    ],
)
def test_a_secret_that_is_spread_over_tokens_is_masked(output: Any, masked: Any) -> None:
    assert SECRETS.mask(output, {"key": LITERAL}) == masked


@pytest.mark.parametrize("secret", ["a b/c+d=e&f%g", "zürich-zürich", "\ud800hunter2"])
def test_a_secret_is_masked_as_urls_write_it(secret: str) -> None:
    for written in (quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")):
        url = f"https://replicate.delivery/x?sig={written}&y=1"
        assert SECRETS.mask(url, {"key": {"$secret": secret}}) == f"https://replicate.delivery/x?sig={REDACTED}&y=1"


def test_a_secret_that_a_message_cut_with_its_url_is_masked() -> None:
    url = f"https://replicate.delivery/{'x' * 159}?sig=hunter2-hunter2"
    assert url[:200].endswith("sig=hunter2-h")
    error = BrokenDownload(f"{url[:200]}: the file host answers 503", url)
    SECRETS.mask_error(error, {"key": LITERAL})
    assert str(error).endswith("?sig=[REDACTED: the file host answers 503")
    assert error.url.endswith("?sig=[REDACTED]")
    plain = BrokenDownload(f"{url[:200]}: cut", url)
    NO_SECRETS.mask_error(plain)
    assert str(plain) == f"{url[:200]}: cut"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(KEY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_was_sent_can_be_shown_masked(values: dict[str, Any]) -> None:
    sent = SECRETS.resolve(values)
    assert "sk-0123456789" not in json.dumps(SECRETS.mask(sent, values), ensure_ascii=False)
    assert without_keys(sent, secret_keys(values)) == without_keys(values, secret_keys(values))
