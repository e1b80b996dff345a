"""What a worker does after the last prompt of a batch, in a process that can be measured."""

from __future__ import annotations

import sys
from pathlib import Path

from jobs.batch_folder.folder import Folder
from jobs.batch_folder.gallery import write_gallery
from jobs.batch_folder.results import writing_results
from jobs.batch_folder.rows.merge import merge_rows

if __name__ == "__main__":
    folder = Folder(Path(sys.argv[1]), "bench")
    with writing_results(folder, merge_rows(folder, with_html=True), fsync=True) as rows:
        write_gallery(folder, rows, fsync=True)
