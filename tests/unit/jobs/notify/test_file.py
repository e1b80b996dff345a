from __future__ import annotations

import base64
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.notify.event import EVENTS, Event
from jobs.notify.file import ReceiversFile, load, secret_bytes

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
ENVIRONMENT: dict[str, str | None] = {
    "KEY": SECRET,
    "SHORT": "whsec_aGk=",
    "PLAIN": "my password",
    "HOOK": "https://example.com/in?token=t0k3n",
    "FTP": "ftp://example.com/t0k3n",
    "MAIL": "mailto://user:pass@example.com",
    "EMPTY": "",
}


def read(text: str, folder: Path = Path()) -> ReceiversFile:
    path = folder / "notify.toml"
    path.write_text(text)
    return load(path, ENVIRONMENT)


def test_all_kinds_of_receivers() -> None:
    found = read(
        'on_finish = "notify-send done"\n'
        '[[receiver]]\nname = "ops"\nwebhook = "https://example.com/in"\nsecret_env = "KEY"\nevents = ["finished"]\n'
        '[[receiver]]\nname = "chat"\napprise_env = "MAIL"\nbatches = "night-*"\n'
        '[[receiver]]\nname = "hidden"\nwebhook_env = "HOOK"\ntimeout = 5\n'
        '[[receiver]]\nname = "script"\ncommand = "cat | tee log"\nshell = true\n'
    )
    assert found.error == ""
    finish, ops, chat, hidden, script = found.receivers
    assert (finish.name, finish.kind, finish.target, finish.events) == (
        "on_finish", "command", "notify-send done", ("finished",)
    )  # fmt: skip
    assert (ops.kind, ops.secret, ops.events, ops.timeout) == ("webhook", b"k" * 24, ("finished",), 20)
    assert (chat.kind, chat.target, chat.events) == ("apprise", "mailto://user:pass@example.com", EVENTS)
    assert (hidden.target, hidden.timeout) == ("https://example.com/in?token=t0k3n", 5)
    assert script.shell
    assert found.variables == {"KEY", "MAIL", "HOOK"}
    assert "t0k3n" not in repr(found)
    assert "pass" not in repr(found)


def test_without_a_file_there_is_no_receiver(tmp_path: Path) -> None:
    assert load(tmp_path / "none.toml", {}).receivers == ()


OPS = '[[receiver]]\nname = "ops"\n'


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a = 1\n", 1, "unknown key 'a': only on_finish and [[receiver]] may be here"),
        ("\n[[receivers]]\n", 2, "unknown key 'receivers': did you mean [[receiver]]?"),
        ("receiver = 1\n", 1, "two pairs of brackets"),
        ("on_finish = 3\n", 1, "on_finish must be text in quotes"),
        ('on_finish = "say \'x"\n', 1, "No closing quotation"),
        ("name = \n", 1, "Invalid value"),
        ('[[receiver]]\nwebhook = "https://x"\n', 1, "the receiver has no name"),
        (f'{OPS}webhook = "https://x"\n{OPS}webhook = "https://y"\n', 5, "another receiver is named 'ops' already"),
        (OPS, 1, "the receiver needs one of webhook, webhook_env, command, apprise, apprise_env"),
        (f'{OPS}webhook = "https://x"\ncommand = "x"\n', 1, "and no two of them"),
        (f'{OPS}webhook = "file:///etc/passwd"\n', 3, "webhook: the address is not an http or https URL"),
        (f'{OPS}webhook = "https://"\n', 3, "webhook: the address is not an http or https URL"),
        (f'{OPS}webhook_env = "FTP"\n', 3, "webhook_env: what it holds is not an http or https URL"),
        (f'{OPS}webhook = "https://x"\nsecret = "whsec_x"\n', 4, "unknown key 'secret'; did you mean secret_env?"),
        (f'{OPS}webhook = "https://x"\nsecret_env = "NONE"\n', 4, "the environment has no such variable"),
        (f'{OPS}webhook = "https://x"\nsecret_env = "EMPTY"\n', 4, "the environment has no such variable"),
        (f'{OPS}webhook = "https://x"\nsecret_env = "PLAIN"\n', 4, "it is not whsec_ followed by base64"),
        (f'{OPS}webhook = "https://x"\nsecret_env = "SHORT"\n', 4, "it stands for 2 bytes, and 16 are needed"),
        (f'{OPS}command = "x"\nsecret_env = "KEY"\n', 4, "secret_env is for a webhook only"),
        (f'{OPS}webhook = "https://x"\nshell = true\n', 4, "shell is for a command only"),
        (f'{OPS}command = " "\n', 3, "command: it names no program"),
        (f'{OPS}command = "x"\nevent = ["finished"]\n', 4, "unknown key 'event'; did you mean events?"),
        (f'{OPS}command = "x"\nevents = ["finish"]\n', 4, "there is no event 'finish'; did you mean 'finished'?"),
        (f'{OPS}command = "x"\nevents = []\n', 4, "the list is empty"),
        (f'{OPS}command = "x"\nevents = "finished"\n', 4, "events must be a list of texts in quotes"),
        (f'{OPS}command = "x"\ntimeout = 0\n', 4, "timeout: 0 is not above 0 seconds"),
        (f'{OPS}webhook = "https://x"\ntimeout = 121\n', 4, "timeout: 121 is more than 120 seconds"),
        ('[[receiver]]\nname = "a/b"\ncommand = "x"\n', 2, "name: 'a/b' is not 1 to 40 characters"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, message: str) -> None:
    found = read(text)
    assert [problem.line for problem in found.problems] == [line], found.error
    assert message in found.error
    for secret in ("t0k3n", "my password", "aGk="):
        assert secret not in found.error


def test_a_wrong_receiver_leaves_the_others_in_force() -> None:
    found = read(f'{OPS}command = "x"\n[[receiver]]\nname = "b"\n')
    assert [receiver.name for receiver in found.receivers] == ["ops"]
    assert found.is_whole
    assert not read("x = 1\n").is_whole


def test_without_the_extra_only_apprise_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    found = read(f'{OPS}apprise_env = "MAIL"\n[[receiver]]\nname = "b"\ncommand = "x"\n')
    assert found.error.endswith(
        "line 3: e-mail and chat need the library apprise: pip install 'replicate-batch[notify]'"
    )
    assert [receiver.name for receiver in found.receivers] == ["b"]


@given(st.binary(min_size=16, max_size=64))
def test_a_secret_is_read_with_and_without_its_prefix(key: bytes) -> None:
    text = base64.b64encode(key).decode()
    assert secret_bytes(f"whsec_{text}") == secret_bytes(f" {text}\n") == key


@pytest.mark.parametrize(
    ("name", "batch", "wanted"),
    [("finished", "night-1", True), ("finished", "day-1", False), ("missed", "night-1", False), ("paused", "", True)],
)
def test_a_receiver_wants_its_events_and_batches(name: str, batch: str, *, wanted: bool) -> None:
    text = f'{OPS}command = "x"\nevents = ["finished", "paused"]\nbatches = "night-*"\n'
    (receiver,) = read(text).receivers
    event = Event.model_validate({"id": "1", "name": name, "at": 0, "title": "t", "batch": batch})
    assert receiver.wants(event) is wanted
