"""What the gallery shows of one prompt. Plain values; the template escapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

from jobs.batch_folder.folder import Folder
from jobs.input_files.reference import with_files
from jobs.secret_inputs import shown_input
from jobs.wire import Failure, Outcome, Prompt, Result, SavedFile

Kind = Literal["image", "audio", "video", "text", "json", "other"]

TEXT_SHOWN = 4_000
"""Characters of a text output on the page; the file has the rest."""
INPUT_SHOWN = 20_000
"""Characters of an input on the page: a `data:` URI may be megabytes long."""
_PROMPT_SHOWN = 1_000
_VALUE_SHOWN = 60
_VERSION = re.compile(r"([0-9a-f]{8})[0-9a-f]{56}$")
_KINDS: dict[Kind, str] = {
    "video": ".mp4 .webm .mov .m4v .ogv",
    "image": ".png .jpg .jpeg .webp .gif .avif .bmp .svg",
    "audio": ".wav .mp3 .ogg .oga .opus .flac .m4a .aac",
    "text": ".txt .md .csv .srt .vtt .jsonl",
    "json": ".json",
}
_KIND_OF = {suffix: kind for kind, suffixes in _KINDS.items() for suffix in suffixes.split()}
_ACTIVE = (".html", ".htm", ".xhtml", ".xht", ".svg", ".xml", ".mhtml", ".shtml")
"""A browser would run scripts in these, so they are never linked."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One output of a prompt; `href` is percent-encoded and relative, None when it must not be opened."""

    kind: Kind
    name: str
    source: str | None = None
    href: str | None = None
    bytes: int | None = None
    text: str = ""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """One prompt and its result; `status` is `waiting` while it has no record."""

    index: int
    id: str
    model: str
    status: Outcome | Literal["waiting"]
    prompt: str
    seed: str | None
    input: str
    previews: tuple[Preview, ...] = ()
    output: str | None = None
    seconds: float | None = None
    failure: Failure | None = None
    prediction_id: str | None = None
    attempts: int = 0
    cost: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def short_model(self) -> str:
        """The model with only the beginning of its version's 64 digits."""
        return _VERSION.sub(r"\1…", self.model)

    @property
    def layout(self) -> str:
        """Images and videos in rows of one, two or three (`up-1` …), else a column."""
        if not all(preview.kind in ("image", "video") for preview in self.previews):
            return "column"
        return f"up-{1 if len(self.previews) == 1 else 2 if len(self.previews) <= 4 else 3}"


def lay_out(folder: Folder, prompt: Prompt, result: Result | None) -> GalleryItem:
    """Return the item of one prompt; reads the beginning of its text files."""
    values = with_files(shown_input(prompt.input), lambda file: PurePath(file.path).name)
    waiting = GalleryItem(
        prompt.index,
        prompt.id,
        prompt.model,
        "waiting",
        _clip(prompt_text(values), _PROMPT_SHOWN),
        None if (seed := values.get("seed")) is None else str(seed),
        pretty(values),
    )
    return _with_result(folder, waiting, result) if result else waiting


def pretty(value: Any) -> str:
    """A JSON value for reading, its end cut when it is very long."""
    return _clip(json.dumps(value, indent=2, ensure_ascii=False), INPUT_SHOWN)


def _with_result(folder: Folder, waiting: GalleryItem, result: Result) -> GalleryItem:
    previews = tuple(sorted((_preview(folder, result.id, file) for file in result.files), key=_rank))
    seconds = result.metrics.get("predict_time")
    return GalleryItem(
        waiting.index,
        waiting.id,
        waiting.model,
        result.status,
        waiting.prompt,
        waiting.seed,
        waiting.input,
        previews or _inline(folder, result),
        pretty(result.output) if previews and isinstance(result.output, dict | list) else None,
        float(seconds) if isinstance(seconds, int | float) else None,
        result.error,
        result.prediction_id,
        result.attempts,
        result.cost,
        tuple(_warnings(result)),
    )


def _warnings(result: Result) -> Iterator[str]:
    """What is unusual about its files, and which were not fetched."""
    for file in result.files:
        if file.warning:
            yield f"{PurePosixPath(file.path).name} {file.warning}"
    for url in result.unsaved:
        yield f"not fetched, and deleted there after an hour: {_clip(url, _PROMPT_SHOWN)}"


def text_files(result: Result) -> Iterator[str]:
    """The files that an item shows the beginning of, by their paths in the batch's folder."""
    for file in result.files:
        if _KIND_OF.get(file.path[file.path.rfind(".") :].lower()) in ("text", "json") and _is_of(result.id, file):
            yield file.path


def _preview(folder: Folder, prompt_id: str, file: SavedFile) -> Preview:
    path = PurePosixPath(file.path)
    if not _is_of(prompt_id, file):
        return Preview("other", file.path, bytes=file.bytes)
    kind, source = _KIND_OF.get(path.suffix.lower(), "other"), quote(file.path)
    href = None if path.suffix.lower() in _ACTIVE else source
    text, cut = _beginning(folder.path / path) if kind in ("text", "json") else ("", False)
    return Preview(kind, path.name, source, href, file.bytes, _indented(text) if kind == "json" else text, cut)


def _is_of(prompt_id: str, file: SavedFile) -> bool:
    """Whether a file is in its prompt's folder."""
    parts = PurePosixPath(file.path).parts
    return parts[:1] == (prompt_id,) and ".." not in parts


def _rank(preview: Preview) -> int:
    """Images and videos come first; files of one kind keep their order."""
    return list(_KINDS).index(preview.kind) if preview.kind in _KINDS else len(_KINDS)


def _beginning(path: Path) -> tuple[str, bool]:
    try:
        with path.open(encoding="utf-8", errors="replace") as text:
            start = text.read(TEXT_SHOWN + 1)
    except OSError as error:
        return f"({path.name} cannot be read: {error.strerror or error})", False
    return start[:TEXT_SHOWN], len(start) > TEXT_SHOWN


def _indented(text: str) -> str:
    try:
        return pretty(json.loads(text))
    except ValueError:
        return text


def _inline(folder: Folder, result: Result) -> tuple[Preview, ...]:
    """A text or JSON output that is not in `files`; its file is linked if there is one."""
    output = result.output
    if output is None:
        return ()
    if isinstance(output, list) and output and all(isinstance(token, str) for token in output):
        output = "".join(output)
    kind: Kind = "text" if isinstance(output, str) else "json"
    text = output if isinstance(output, str) else json.dumps(output, indent=2, ensure_ascii=False)
    path = f"{result.id}/output.{'txt' if kind == 'text' else 'json'}"
    href = quote(path) if (folder.path / path).is_file() else None
    return (Preview(kind, "output", None, href, None, text[:TEXT_SHOWN], len(text) > TEXT_SHOWN),)


def prompt_text(values: Mapping[str, Any]) -> str:
    """What people read of an input: its prompt, else all its values in brief."""
    for key in ("prompt", "text"):
        if isinstance(values.get(key), str):
            return str(values[key])
    return "\n".join(f"{key}: {_brief(value)}" for key, value in values.items())


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.startswith("data:"):
        return f"{text.partition(',')[0][:_VALUE_SHOWN]},…"
    return text if len(text) <= _VALUE_SHOWN else f"{text[:_VALUE_SHOWN]}…"


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … and {len(text) - limit:,} more characters"
