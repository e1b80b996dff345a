"""The command line of `python -m jobs`."""
