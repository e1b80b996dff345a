"""Which texts may name a file, and which paths a text may mean."""

import pytest

from jobs.input_files.path_texts import is_surely_path, is_url, may_name_file, spellings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stills/a.png", True),
        ("a.PNG", True),
        ("./a", True),
        ("~/a", True),
        ("/tmp/a", True),
        ("C:\\a", True),
        ("my stills/a b.jpeg", True),
        ("someone", False),
        ("john.doe", False),
        ("org/name", False),
        ("home", False),
        ("", False),
        ("someone, look at a/b", False),
    ],
)
def test_what_can_only_be_a_path(text: str, *, expected: bool) -> None:
    assert is_surely_path(text) is expected


@pytest.mark.parametrize(
    "text", ["https://a.test/b.png", "HTTP://a", "s3://a/b.png", "data:image/png;base64,aGk=", " data:,"]
)
def test_urls(text: str) -> None:
    assert is_url(text)
    assert not may_name_file("image", text)


@pytest.mark.parametrize("text", ["file:///a.png", "FILE:/a.png", "a.png", "C:/a.png", "at 10:30.png", "@https://a"])
def test_no_urls(text: str) -> None:
    assert not is_url(text)
    assert may_name_file("image", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.png", ["a.png"]),
        (" a.png\t", [" a.png\t", "a.png"]),
        ("a\\b.png", ["a\\b.png", "a/b.png"]),
        ("\ufeff\u202aa.png\u200b", ["\ufeff\u202aa.png\u200b", "a.png"]),
        ('"a b.png"', ['"a b.png"', "a b.png"]),
        ('""', ['""']),
        ("file:///a%20b.png", ["/a b.png", "/a%20b.png", "file:///a%20b.png"]),
        ("file://localhost/a.png", ["/a.png", "file://localhost/a.png"]),
        ("File:/a.png", ["/a.png", "File:/a.png"]),
        ("file://stills/a#1?.png", ["stills/a#1?.png", "file://stills/a#1?.png"]),
        ("  ", ["  "]),
    ],
)
def test_the_paths_that_a_text_may_mean(text: str, expected: list[str]) -> None:
    assert list(spellings(text)) == expected
