"""The commands of `python -m jobs`, one a file, each imported when it runs."""
