from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.batch_folder import gallery
from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery import page_name, page_numbers, write_gallery
from jobs.errors import ForeignFolder
from jobs.wire import Result

VOID = {"meta", "img", "link", "br", "input"}


class Page(HTMLParser):
    """What a browser would make of a page: elements with attributes, and the text inside each article."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.articles: dict[str, str] = {}
        self._article = ""
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "article":
            self._article = dict(attrs)["id"] or ""
            self.articles[self._article] = ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "article":
            self._article = ""

    def handle_data(self, data: str) -> None:
        if self._article:
            self.articles[self._article] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for attributes in self.all(tag) if (value := attributes.get(attribute)) is not None]


class Sheet:
    """A batch's folder with records made up prompt by prompt."""

    def __init__(self, directory: Path) -> None:
        self.folder = Folder(directory, "night")
        self.folder.path.mkdir()
        manifest = {"batch": "night", "id": "f00d", "realm": "x", "created_at": 1795212251.12}
        self.folder.manifest.write_text(json.dumps(manifest), encoding="utf-8")
        self.folder.prompts.touch()
        self.count = 0

    def add(self, prompt_id: str, values: dict[str, Any] | None = None, **fields: Any) -> None:
        """Add a prompt; with fields also its record, `files` being names and contents."""
        values = {"prompt": "A quiet sea"} if values is None else values
        row = {"id": prompt_id, "model": fields.pop("model", "owner/model"), "input": values}
        with self.folder.prompts.open("a", encoding="utf-8") as prompts:
            prompts.write(json.dumps(row) + "\n")
        if fields:
            directory = self.folder.prompt(prompt_id)
            directory.mkdir()
            files = [self._save(directory, name, content) for name, content in fields.pop("files", {}).items()]
            warning = fields.pop("warning", None)
            files = [file | {"warning": warning} for file in files]
            record = {
                "index": self.count,
                "status": "succeeded",
                "saved_at": "2026-11-21T02:41:10.000Z",
                "files": files,
            }
            result = Result.model_validate(record | row | fields)
            (directory / "prediction.json").write_text(result.model_dump_json(), encoding="utf-8")
        self.count += 1

    def _save(self, directory: Path, name: str, content: bytes) -> dict[str, Any]:
        (directory / name).write_bytes(content)
        path = f"{directory.name}/{name}"
        return {"path": path, "url": "https://replicate.delivery/x", "bytes": len(content), "sha256": ""}

    def page(self, number: int = 1) -> Page:
        write_gallery(self.folder, fsync=False)
        return Page(self.folder.path / page_name(number))


@pytest.fixture
def sheet(tmp_path: Path) -> Sheet:
    return Sheet(tmp_path)


def failure(kind: str = "model_error", message: str = "shape mismatch", code: str | None = None) -> dict[str, Any]:
    return {"status": "failed", "error": {"kind": kind, "message": message, "code": code}}


def test_an_image_stands_with_its_prompt_seed_id_model_and_run_time(sheet: Sheet) -> None:
    values = {"prompt": "A lighthouse", "seed": 4711, "steps": 4}
    sheet.add("harbour", values, files={"output.png": b"png"}, metrics={"predict_time": 12.34}, prediction_id="q1w2")
    page = sheet.page()
    (image,) = page.all("img")
    assert image["src"] == "harbour/output.png"
    assert image["loading"] == "lazy"
    assert image["width"] == image["height"] == "512"
    assert image["alt"] == "A lighthouse"
    for fact in ("harbour", "A lighthouse", "seed 4711", "owner/model", "12.3 s", '"steps": 4', "q1w2", "3 B"):
        assert fact in page.articles["p0"]


@pytest.mark.parametrize(("name", "tag"), [("output.wav", "audio"), ("output.MP3", "audio"), ("output.mp4", "video")])
def test_sound_and_film_have_players_that_load_nothing_by_themselves(sheet: Sheet, name: str, tag: str) -> None:
    sheet.add("one", files={name: b"x"})
    (player,) = sheet.page().all(tag)
    assert player["src"] == f"one/{name}"
    assert "controls" in player
    assert player["preload"] == "none"


def test_several_files_share_the_frame(sheet: Sheet) -> None:
    for count in (1, 2, 4, 5):
        sheet.add(f"n{count}", files={f"output_{number}.png": b"x" for number in range(count)})
    page = sheet.page()
    shots = [classes for classes in page.values("div", "class") if classes.startswith("shots")]
    assert shots == ["shots up-1", "shots up-2", "shots up-2", "shots up-3"]
    assert len(page.all("img")) == 12


def test_of_mixed_files_those_to_be_seen_come_first(sheet: Sheet) -> None:
    files = {"output_zip.zip": b"x", "output_words.txt": b"x", "output_b.png": b"x", "output_a.png": b"x"}
    sheet.add("one", files=files | {"output_video.mp4": b"x"})
    page = sheet.page()
    assert "shots column" in page.values("div", "class")
    shown = re.findall(r"one/output_(\w+)\.", page.source.partition("<details>")[0])
    assert list(dict.fromkeys(shown)) == ["video", "b", "a", "words", "zip"]


def test_text_is_shown_as_far_as_it_is_worth_and_its_file_linked(sheet: Sheet) -> None:
    sheet.add("short", files={"output.txt": "Grüße\nfrom afar".encode()}, output="Grüße\nfrom afar")
    sheet.add("long", files={"output.txt": b"a" * 4000 + b"NOT SHOWN"}, output="a")
    page = sheet.page()
    assert "Grüße\nfrom afar" in page.articles["p0"]
    assert "a" * 4000 + "…" in page.articles["p1"]
    assert "NOT SHOWN" not in page.source
    assert {"short/output.txt", "long/output.txt"} <= set(page.values("a", "href"))


def test_json_is_indented_as_long_as_it_is_json(sheet: Sheet) -> None:
    sheet.add("good", files={"output.json": b'{"score":1}'}, output={"score": 1})
    sheet.add("bad", files={"output.json": b'{"score":'}, output=None)
    page = sheet.page()
    assert '{\n  "score": 1\n}' in page.articles["p0"]
    assert '{"score":' in page.articles["p1"]


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("plain words", "plain words"),
        (["to", "k", "ens"], "tokens"),
        ({"a": [1]}, '"a": ['),
        (3.5, "3.5"),
        (False, "false"),
        ([], "[]"),
    ],
)
def test_an_output_that_is_no_file_is_shown_from_the_record(sheet: Sheet, output: Any, shown: str) -> None:
    sheet.add("one", output=output)
    assert shown in sheet.page().articles["p0"]


def test_the_file_of_such_an_output_is_linked_when_there_is_one(sheet: Sheet) -> None:
    sheet.add("with", output="words")
    sheet.add("without", output="words")
    (sheet.folder.prompt("with") / "output.txt").write_text("words", encoding="utf-8")
    assert "with/output.txt" in (hrefs := sheet.page().values("a", "href"))
    assert "without/output.txt" not in hrefs


def test_a_succeeded_prompt_without_output_says_so(sheet: Sheet) -> None:
    sheet.add("one", output=None, attempts=1)
    assert "no output" in sheet.page().articles["p0"]


def test_the_shape_around_files_can_be_read_too(sheet: Sheet) -> None:
    output = [{"file": "one/output_0_file.png", "score": 0.75}]
    sheet.add("one", files={"output_0_file.png": b"x"}, output=output)
    assert '"score": 0.75' in sheet.page().articles["p0"]


def test_other_files_are_named_with_size_and_linked(sheet: Sheet) -> None:
    sheet.add("mesh", files={"output.glb": b"x" * 1500})
    page = sheet.page()
    assert "mesh/output.glb" in page.values("a", "href")
    assert "1.5 kB" in page.articles["p0"]


def test_a_text_file_that_is_gone_is_told_in_its_place(sheet: Sheet) -> None:
    sheet.add("one", files={"output.txt": b"x"})
    (sheet.folder.prompt("one") / "output.txt").unlink()
    assert "output.txt cannot be read: No such file" in sheet.page().articles["p0"]


@pytest.mark.parametrize("name", ["output.html", "output.SVG", "output.xhtml", "output.xml"])
def test_what_could_run_a_script_is_named_but_never_linked(sheet: Sheet, name: str) -> None:
    sheet.add("one", files={name: b"<svg/>"})
    page = sheet.page()
    assert name in page.articles["p0"]
    assert [href for href in page.values("a", "href") if name in href] == []


@pytest.mark.parametrize(
    "path", ["../../etc/passwd.png", "javascript:alert(1)", "/etc/x.png", "one/../../x.png", "two/x.png"]
)
def test_a_path_that_is_not_the_prompts_own_is_never_a_link(sheet: Sheet, path: str) -> None:
    sheet.add("one", output="x")
    record = sheet.folder.prompt("one") / "prediction.json"
    fields = json.loads(record.read_bytes())
    fields["files"] = [{"path": path, "url": "https://replicate.delivery/x", "bytes": 1, "sha256": ""}]
    record.write_text(json.dumps(fields), encoding="utf-8")
    page = sheet.page()
    assert page.all("img") == page.all("a") == []
    assert path in page.articles["p0"]


def test_file_names_are_percent_encoded(sheet: Sheet) -> None:
    sheet.add("one", files={'output_a b#?%"ü.png': b"x"})
    (source,) = sheet.page().values("img", "src")
    assert source == "one/output_a%20b%23%3F%25%22%C3%BC.png"
    assert (sheet.folder.path / unquote(source)).is_file()


def test_failures_stand_in_their_place_and_on_top(sheet: Sheet) -> None:
    sheet.add("fine", files={"output.png": b"x"})
    sheet.add("refused", **failure("content_policy", "flagged as sensitive", "E005"))
    sheet.add("stopped", status="canceled")
    page = sheet.page()
    for fact in ("content policy", "flagged as sensitive", "E005"):
        assert fact in page.articles["p1"]
    assert "canceled" in page.articles["p2"]
    top = page.source.partition("<main>")[0]
    assert "2 without an output" in top
    assert "content policy 1" in top
    assert "flagged as sensitive" in top
    assert {"#p1", "#p2"} <= set(page.values("a", "href"))


def test_without_failures_there_is_no_list_of_them(sheet: Sheet) -> None:
    sheet.add("fine", files={"output.png": b"x"})
    assert "without an output" not in sheet.page().source


def test_the_list_of_failures_is_capped_and_counted(sheet: Sheet) -> None:
    shown = gallery.FAILURES_SHOWN
    for number in range(shown + 1):
        sheet.add(f"bad-{number}", **failure(message=f"message {number}"))
    page = sheet.page()
    top = page.source.partition("<main>")[0]
    assert f"{shown + 1} without an output" in top
    assert f"message {shown - 1}" in top
    assert f"message {shown}" not in top
    assert "errors.jsonl" in page.values("a", "href")


def test_totals_and_times_stand_on_top(sheet: Sheet) -> None:
    sheet.add("one", files={"output_0.png": b"x" * 1200, "output_1.png": b"x" * 1300})
    sheet.add("two", **failure())
    words = " ".join(re.sub(r"<[^>]*>", " ", sheet.page().source.partition("</header>")[0]).split())
    assert words.endswith("2026-11-20 22:04:11 → 2026-11-21 02:41:10 UTC succeeded 1 failed 1 files 2 on disk 2.5 kB")


def test_what_a_success_lacks_stands_in_its_place_and_on_top(sheet: Sheet) -> None:
    sheet.add("one", output={"video": "https://elsewhere.example/a.mp4"}, unsaved=["https://elsewhere.example/a.mp4"])
    sheet.add("two", output=None, empty=True)
    page = sheet.page()
    assert "not fetched, and deleted there after an hour: https://elsewhere.example/a.mp4" in page.articles["p0"]
    words = " ".join(re.sub(r"<[^>]*>", " ", page.source.partition("</header>")[0]).split())
    assert words.endswith("files 0 not saved 1 empty 1 on disk 0 B")


def test_a_strange_file_stands_with_its_warning(sheet: Sheet) -> None:
    sheet.add("one", files={"output.html": b"<html>"}, output="one/output.html", warning="is a .html file")
    assert "output.html is a .html file" in sheet.page().articles["p0"]


def test_costs_stand_in_the_frames_and_on_top(sheet: Sheet) -> None:
    sheet.add("one", output="x", metrics={"predict_time": 2.5}, cost=0.0123)
    sheet.add("two", **failure(), cost=0.5)
    sheet.add("three", output="x")
    page = sheet.page()
    assert "owner/model2.5 s · $0.0123" in page.articles["p0"]
    assert "owner/model$0.50" in page.articles["p1"]
    assert "$" not in page.articles["p2"]
    words = " ".join(re.sub(r"<[^>]*>", " ", page.source.partition("</header>")[0]).split())
    assert words.endswith("on disk 0 B cost $0.512")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599.6, "1 h 00 min"), (9000, "2 h 30 min")],
)
def test_run_times_are_for_people(sheet: Sheet, seconds: float, shown: str) -> None:
    sheet.add("one", output="x", metrics={"predict_time": seconds})
    assert f"owner/model{shown}" in sheet.page().articles["p0"]


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (250_000_000, "250 MB"), (7_300_000_000_000, "7.3 TB")],
)
def test_sizes_are_for_people(sheet: Sheet, size: int, shown: str) -> None:
    file = {"path": "one/output.glb", "url": "u", "bytes": size, "sha256": ""}
    sheet.add("one", output="x")
    record = sheet.folder.prompt("one") / "prediction.json"
    record.write_text(json.dumps(json.loads(record.read_bytes()) | {"files": [file]}), encoding="utf-8")
    assert f"output.glb{shown}" in sheet.page().articles["p0"]


def test_a_batch_that_still_runs_shows_what_is_waiting(sheet: Sheet) -> None:
    sheet.add("done", files={"output.png": b"x"})
    sheet.add("later", {"prompt": "A hill"})
    sheet.add("stopped", status="canceled")
    page = sheet.page()
    assert "no result yet" in page.articles["p1"]
    assert "A hill" in page.articles["p1"]
    header = page.source.partition("</header>")[0]
    assert "→" not in header
    assert "waiting" in header


def test_a_batch_without_prompts_has_a_page(sheet: Sheet) -> None:
    assert "This batch has no prompts." in sheet.page().source


def test_a_batch_that_was_never_begun_has_a_page_without_a_date(tmp_path: Path) -> None:
    folder = Folder(tmp_path, "new")
    assert "UTC" not in Page(write_gallery(folder, fsync=False)).source


def test_the_folder_of_something_else_is_left_alone(sheet: Sheet) -> None:
    sheet.folder.manifest.unlink()
    with pytest.raises(ForeignFolder, match=r"has no batch\.json"):
        write_gallery(sheet.folder, fsync=False)
    assert not sheet.folder.gallery.exists()


def test_a_prompt_is_any_input(sheet: Sheet) -> None:
    sheet.add("text", {"text": "Read me"})
    sheet.add("other", {"image": "https://example.org/a.png", "prompt": 3})
    sheet.add("data", {"image": "data:image/png;base64,iVBOR", "mask": "m" * 100})
    page = sheet.page()
    assert "Read me" in page.articles["p0"]
    assert "image: https://example.org/a.png\nprompt: 3" in page.articles["p1"]
    assert f"image: data:image/png;base64,…\nmask: {'m' * 60}…" in page.articles["p2"]
    assert "https://example.org/a.png" not in page.values("a", "href")


def test_a_local_file_is_shown_by_its_name(sheet: Sheet) -> None:
    file = {"$file": "/stills/häfen.png", "sha256": "0" * 64, "size": 7}
    sheet.add("waiting", {"image": file, "images": [file]})
    sheet.add("done", {"prompt": "x", "image": file}, files={"output.png": b"png"})
    page = sheet.page()
    assert 'image: häfen.png\nimages: ["häfen.png"]' in page.articles["p0"]
    assert '"image": "häfen.png"' in page.articles["p1"]
    assert "$file" not in page.source


def test_a_version_is_shown_by_its_beginning(sheet: Sheet) -> None:
    version = "0123456789abcdef" * 4
    sheet.add("one", model=f"owner/model:{version}")
    sheet.add("two", model=version)
    page = sheet.page()
    assert "owner/model:01234567…" in page.articles["p0"]
    assert "01234567…" in page.articles["p1"]
    assert {f"owner/model:{version}", version} <= set(page.values("span", "title"))


def test_a_huge_input_is_cut(sheet: Sheet) -> None:
    sheet.add("one", {"prompt": "p" * 5000, "image": "data:image/png;base64," + "A" * 1_000_000})
    page = sheet.page()
    assert len(page.source) < 60_000
    assert "more characters" in page.articles["p0"]


def test_pages_are_linked_and_failures_lead_to_theirs(sheet: Sheet) -> None:
    size = gallery.PAGE_SIZE
    for number in range(2 * size):
        sheet.add(f"n{number}", output="x")
    sheet.add("last", **failure())
    first, second, third = (sheet.page(number) for number in (1, 2, 3))
    assert list(first.articles) == [f"p{number}" for number in range(size)]
    assert list(second.articles) == [f"p{number}" for number in range(size, 2 * size)]
    assert list(third.articles) == [f"p{2 * size}"]
    assert f"index-3.html#p{2 * size}" in first.values("a", "href")
    links = {attributes.get("rel"): attributes["href"] for attributes in second.all("a")}
    assert (links["prev"], links["next"]) == ("index.html", "index-3.html")
    assert "2 of 3" in second.source.partition("</title>")[0]
    assert "without an output" not in second.source
    assert [path.name for path in sheet.folder.path.glob(".*")] == [".segments"]


def test_a_page_holds_two_hundred(sheet: Sheet) -> None:
    for number in range(201):
        sheet.add(f"n{number}")
    assert len(sheet.page(1).articles) == 200
    assert list(Page(sheet.folder.path / "index-2.html").articles) == ["p200"]


@pytest.mark.parametrize(
    ("page", "pages", "numbers"),
    [
        (1, 1, [1]),
        (2, 3, [1, 2, 3]),
        (1, 9, [1, 2, 3, None, 9]),
        (5, 9, [1, None, 3, 4, 5, 6, 7, None, 9]),
        (4, 9, [1, 2, 3, 4, 5, 6, None, 9]),
        (5000, 5000, [1, None, 4998, 4999, 5000]),
    ],
)
def test_page_numbers_are_those_around_and_both_ends(page: int, pages: int, numbers: list[int | None]) -> None:
    assert page_numbers(page, pages) == numbers


def test_nothing_comes_from_the_network_and_no_script_runs(sheet: Sheet) -> None:
    sheet.add("one", {"prompt": "p"}, files={"output.png": b"x"})
    page = sheet.page()
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' file: data:"
    assert rules["media-src"] == "'self' file:"
    assert "script-src" not in rules
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert "http" not in page.source.replace("http-equiv", "")
    assert "url(" not in page.source


def test_both_colour_schemes_narrow_screens_and_paper_are_thought_of(sheet: Sheet) -> None:
    (style,) = re.findall(r"<style>(.*)</style>", sheet.page().source, re.DOTALL)
    for query in ("prefers-color-scheme: dark", "max-width: 40rem", "print"):
        assert f"({query})" in style or f"@media {query}" in style


ATTACK = st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><script>x</script>',
        "' onload=alert(1) x='",
        "javascript:alert(1)",
        "</style><script>",
        "{{ 7 * 7 }}",
        "{% include 'x' %}",
        "--><script>",
        "&lt;script&gt;",
        "<ScRiPt src=//x>",
        "\ud800",
        "\x00",
    ]
)
HOSTILE = st.one_of(ATTACK, st.text(max_size=30), st.tuples(st.text(max_size=5), ATTACK).map("".join))
WELL_FORMED = HOSTILE.map(lambda text: text.encode("utf-8", "replace").decode())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile=HOSTILE, fine=WELL_FORMED, status=st.sampled_from(["succeeded", "failed"]))
def test_no_field_can_open_a_tag_or_an_attribute(hostile: str, fine: str, status: str) -> None:
    with TemporaryDirectory() as directory:
        sheet = Sheet(Path(directory))
        sheet.add("waits", {"prompt": hostile, "seed": hostile, hostile: hostile}, model=hostile)
        error = {"kind": "model_error", "message": fine, "code": fine}
        sheet.add(
            "done",
            {"prompt": fine, "seed": fine},
            model=fine,
            status=status,
            error=error,
            output={fine: fine},
            metrics={"predict_time": fine},
            prediction_id=fine,
            version=fine,
        )
        files = {"output.txt": fine.encode(), "a.png": b""}
        sheet.add("file", {"text": fine}, files=files, output=fine, warning=fine, unsaved=[fine])
        page = sheet.page()
    assert page.open == []
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "iframe", "object", "embed", "svg", "base", "form"})
    assert "<script" not in page.source.lower()
    assert {name for _, attributes in page.elements for name in attributes if name.startswith("on")} == set()
    targets = [value for tag in ("a", "img") for name in ("href", "src") for value in page.values(tag, name)]
    assert all(re.fullmatch(r"#p\d+|file/(output\.txt|a\.png)", target) for target in targets)
    assert list(page.articles) == ["p0", "p1", "p2"]


def test_the_templates_trust_nothing() -> None:
    templates = Path(gallery.__file__).parent / "templates"
    for template in templates.glob("*.html"):
        source = template.read_text(encoding="utf-8")
        assert "safe" not in re.findall(r"\w+", source)
        assert "autoescape" not in source


def test_of_ten_thousand_prompts_a_page_shows_its_part(sheet: Sheet) -> None:
    rows = (json.dumps({"id": f"n{number}", "model": "a/b", "input": {"prompt": "p"}}) for number in range(10_000))
    sheet.folder.prompts.write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_gallery(sheet.folder, fsync=False)
    pages = [(sheet.folder.path / page_name(number)).read_text("utf-8") for number in range(1, 51)]
    assert [page.count("<article") for page in pages] == [200] * 50
