from __future__ import annotations

from pathlib import Path

import pytest

from jobs.config import Config, quoted_settings
from jobs.errors import ConfigError


def test_the_defaults_are_replicates_limits() -> None:
    config = Config.load()
    assert (config.creates_per_minute, config.reads_per_minute, config.api_host) == (600, 3000, "api.replicate.com")
    assert config.replicate_api_token is None


def test_the_environment_goes_before_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("BATCH_MAX_ATTEMPTS=7\nBATCH_LEASE=9\nREPLICATE_API_TOKEN=from-the-file\n")
    monkeypatch.setenv("BATCH_LEASE", "5")
    config = Config.load()
    assert (config.max_attempts, config.lease) == (7, 5)
    assert config.replicate_api_token
    assert config.replicate_api_token.get_secret_value() == "from-the-file"


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_secret")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@host")
    assert "secret" not in repr(Config.load()).replace("SecretStr", "")
    assert "hunter2" not in repr(Config.load())


def test_hosts_are_a_list_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_OUTPUT_HOSTS", " Localhost, *.replicate.delivery ,")
    assert Config.load().output_hosts == ("localhost", "*.replicate.delivery")


@pytest.mark.parametrize(
    ("url", "base", "api_host"),
    [
        ("http://127.0.0.1:5555", "http://127.0.0.1:5555", "127.0.0.1:5555"),
        ("http://127.0.0.1:5555/v1/", "http://127.0.0.1:5555", "127.0.0.1:5555"),
    ],
)
def test_the_realm_is_the_api_host(monkeypatch: pytest.MonkeyPatch, url: str, base: str, api_host: str) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", url)
    config = Config.load()
    assert (config.replicate_base_url, config.api_host) == (base, api_host)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BATCH_MAX_IN_FLIGHT", "many", "BATCH_MAX_IN_FLIGHT (it is 'many')"),
        ("BATCH_PREFER_WAIT", "61", "BATCH_PREFER_WAIT (it is '61')"),
        ("BATCH_DEADLINE", "4", "BATCH_DEADLINE"),
        ("REPLICATE_BASE_URL", "ftp://x", "REPLICATE_BASE_URL: 'ftp://x' is not an http or https URL"),
        ("REDIS_URL", "http://:hunter2@x", "REDIS_URL: the URL must begin with redis://"),
        ("REPLICATE_BASE_URL", "http://u:p@host", "scheme, host and port only"),
        ("REPLICATE_BASE_URL", "http://host?x=1", "scheme, host and port only"),
        ("REPLICATE_BASE_URL", "http://host:99999", "REPLICATE_BASE_URL"),
        ("BATCH_OUTPUT_HOSTS", "https://localhost:6602", "is not a host name"),
        ("BATCH_OUTPUT_HOSTS", "*", "is not a host name"),
        ("BATCH_OUTPUT_HOSTS", ";;;garbage http://x/", "is not a host name"),
        ("BATCH_OUTPUT_HOSTS", ",", "there is no host in it"),
        ("BATCH_LEASE", "inf", "BATCH_LEASE"),
        ("BATCH_POLL_INTERVAL", "4000", "BATCH_POLL_INTERVAL"),
        ("BATCH_CREATES_PER_MINUTE", "inf", "BATCH_CREATES_PER_MINUTE"),
        ("BATCH_MODLE", "x", "BATCH_MODLE is not a setting; did you mean BATCH_MODEL?"),
        ("BATCH_CREATES_PER_MINUT", "60", "did you mean BATCH_CREATES_PER_MINUTE?"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_written(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        Config.load()
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "BATCH_MODLE": "x",
        "BATCH_MAX_IN_FLIGHT": "r8_secret",
        "BATCH_LEASE": "0",
        "BATCH_PRICES": "a/b=much",
        "BATCH_FSYNC": "perhaps" * 100,
        "REPLICATE_BASE_URL": "htp://me:hunter2@host",
        "REDIS_URL": "host:6379",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    Path(".env").write_text("BATCH_DEADLINE=soon\nBATCH_READS_PER_MINTUE=1\n")
    with pytest.raises(ConfigError) as caught:
        Config.load()
    lines = str(caught.value).splitlines()
    assert {line.split(maxsplit=1)[0].rstrip(":") for line in lines} == {
        *wrong,
        "BATCH_DEADLINE",
        "BATCH_READS_PER_MINTUE",
    }
    assert "BATCH_DEADLINE (it is 'soon'): it should be a valid integer" in lines
    assert all(len(line) < 400 for line in lines)
    assert "secret" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_misspelt_setting_in_the_file_is_found_too() -> None:
    Path(".env").write_text("BATCH_READS_PER_MINTUE=1\n")
    with pytest.raises(ConfigError, match="BATCH_READS_PER_MINUTE"):
        Config.load()


def test_a_file_that_is_not_utf_8_is_named() -> None:
    Path(".env").write_bytes(b"BATCH_LEASE=\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        Config.load()


def test_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_JOB_QUEUE", "somebody else's")
    Config.load()


def test_it_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config.load().lease = 3  # type: ignore[misc]  # that is what is tested


def test_quotes_around_a_value_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker's --env-file keeps them."""
    monkeypatch.setenv("REPLICATE_API_TOKEN", '"r8_secret"')
    monkeypatch.setenv("REDIS_URL", "'redis://:it's@host'")
    monkeypatch.setenv("BATCH_OUTPUT_DIR", ' "/data/my outputs" ')
    monkeypatch.setenv("BATCH_OUTPUT_HOSTS", '"localhost,*.replicate.delivery"')
    monkeypatch.setenv("BATCH_PRICES", '"a/b=0.5"')
    monkeypatch.setenv("BATCH_MAX_ATTEMPTS", "'7'")
    monkeypatch.setenv("BATCH_MODEL", '""')
    config = Config.load()
    assert config.replicate_api_token
    assert config.replicate_api_token.get_secret_value() == "r8_secret"
    assert config.redis_url
    assert config.redis_url.get_secret_value() == "redis://:it's@host"
    assert config.output_dir == Path("/data/my outputs")
    assert config.output_hosts == ("localhost", "*.replicate.delivery")
    assert config.prices.of("a/b") is not None
    assert (config.max_attempts, config.model) == (7, None)
    assert quoted_settings() == [
        "BATCH_MAX_ATTEMPTS", "BATCH_MODEL", "BATCH_OUTPUT_DIR", "BATCH_OUTPUT_HOSTS", "BATCH_PRICES", "REDIS_URL",
        "REPLICATE_API_TOKEN",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ['"', "'r8_x", "\"r8_x'", 'r8_"x"', "r8_x"])
def test_a_quote_alone_is_part_of_a_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", value)
    token = Config.load().replicate_api_token
    assert token
    assert token.get_secret_value() == value
    assert quoted_settings() == []
