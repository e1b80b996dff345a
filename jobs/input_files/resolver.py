"""Puts references in the place of the local files that an input names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jobs.input_files.local_files import FindCopied, LocalFiles, UnfitFile, find_none
from jobs.input_files.path_texts import batch_output, find_path, holds_text, is_surely_path, is_url, without_at
from jobs.input_files.reference import FileReference, read_reference
from jobs.input_files.uri_schemas import (
    UNKNOWN,
    Schema,
    schema_of_items,
    schema_of_property,
    takes_file,
    takes_text,
)

LONGEST_PATH = 4096
"""Characters of a path that an operating system takes: a longer text is perhaps a file itself, in base64."""


class PathProblem(NamedTuple):
    """What is wrong with a value that names a file; values with an equal `kind` have the same problem."""

    kind: tuple[str, ...]
    message: str


class FileResolver:
    """Knows the files of one prompts file; relative paths count from its folder, `home`.

    `find_output` finds outputs of batches, `find_copied` is as for LocalFiles.
    """

    def __init__(
        self,
        home: Path,
        find_output: Callable[[str], Path | UnfitFile] | None = None,
        find_copied: FindCopied = find_none,
    ) -> None:
        self._files, self._home, self._find_output = LocalFiles(home, find_copied), home, find_output

    def resolve(
        self, values: Mapping[str, Any], properties: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[PathProblem]]:
        """The input with references, by the schemas of its keys, and what is wrong with files that it names.

        A file that cannot be an input gets a reference, too, so that the rest of the input can be checked.
        """
        problems: list[PathProblem] = []
        found = {key: self._value(key, value, _known(properties.get(key)), problems) for key, value in values.items()}
        return found, problems

    def _value(self, place: str, value: Any, schema: Schema, problems: list[PathProblem]) -> Any:
        if type(value) is str:
            if self._is_only_file(value, schema):
                return [self._text(f"{place}[0]", value, schema_of_items(schema), problems)]
            return self._text(place, value, schema, problems)
        if type(value) is list:
            items = schema_of_items(schema)
            return [self._value(f"{place}[{number}]", item, items, problems) for number, item in enumerate(value)]
        if type(value) is dict and not read_reference(value):
            return {
                key: self._value(f"{place}.{key}", item, schema_of_property(schema, key), problems)
                for key, item in value.items()
            }
        return value

    def _is_only_file(self, text: str, schema: Schema) -> bool:
        """Whether a file stands by itself where the schema wants a list of files."""
        if takes_file(schema) or takes_text(schema) or not takes_file(schema_of_items(schema)) or is_url(text):
            return False
        return without_at(text) is not None or isinstance(self._files.find(text), FileReference)

    def _text(self, place: str, text: str, schema: Schema, problems: list[PathProblem]) -> Any:
        if (
            is_url(text)
            or not text.strip()
            or len(text) > LONGEST_PATH
            or not (found := self._file(place, text, schema))
        ):
            return text
        if isinstance(found, FileReference):
            return found.as_value()
        if isinstance(found, UnfitFile):
            found = PathProblem((found.kind, place, found.reason), f"{place!r} names {found.reason}")
        problems.append(found)
        return FileReference(text.strip().removeprefix("@"), "0" * 64, 0).as_value()

    def _file(self, place: str, text: str, schema: Schema) -> FileReference | UnfitFile | PathProblem | None:
        """The file that a text names, what is wrong with it, or None when it names none."""
        path, wanted = without_at(text), takes_file(schema)
        if (output := batch_output(text)) is not None and (wanted or not holds_text(place)):
            return self._output(output)
        if wanted and not takes_text(schema):
            return self._files.find(text) if path is None else self._marked(path, text)
        if holds_text(place) and not wanted:
            return None
        if path is not None:
            found = self._files.find(path)
            is_file = isinstance(found, FileReference) or found.kind not in ("missing", "kind")
            return found if is_file or is_surely_path(path) else None
        if wanted and isinstance(found := self._files.find(text), FileReference):
            return found
        return self._refusal(place, text)

    def _output(self, name: str) -> FileReference | UnfitFile | None:
        found = self._find_output(name) if self._find_output else None
        return self._files.find(str(found)) if isinstance(found, Path) else found

    def _marked(self, path: str, text: str) -> FileReference | UnfitFile:
        """The file of `@path`; the @ may be part of its own name."""
        found = self._files.find(path)
        literal = self._files.find(text) if isinstance(found, UnfitFile) and found.kind == "missing" else None
        return literal if isinstance(literal, FileReference) else found

    def _refusal(self, place: str, text: str) -> PathProblem | None:
        """A path that is not marked as one would reach the model as text."""
        if (path := find_path(text)) is None:
            return None
        names = {path[0], text}
        homes = (Path(), self._home)
        if not path["surely"] and not any(os.path.isfile(home / name) for home in homes for name in names):  # noqa: PTH113 - Path.is_file raises on long names
            return None
        cure = f"write {f'@{path[0]}'!r} to upload it, or give an https URL or a data: URI"
        return PathProblem(("unmarked", place), f"{place!r}: {path[0]!r} names a local file; {cure}")


def _known(schema: Any) -> Schema:
    return schema if isinstance(schema, dict) else UNKNOWN
