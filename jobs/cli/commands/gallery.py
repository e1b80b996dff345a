"""`gallery`: a page of all outputs of a batch."""

from __future__ import annotations

import typer

from jobs.batch_folder.gallery import write_gallery
from jobs.cli import options
from jobs.config import Config
from jobs.operations.operations import known_folder


def gallery(batch: options.BatchName) -> None:
    """Write the batch's gallery as of now and print its path."""
    config = Config.load()
    typer.echo(write_gallery(known_folder(batch, config), fsync=config.fsync))
