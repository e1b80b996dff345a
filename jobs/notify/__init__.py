"""Messages about batches that end and about what stops them, to the receivers of notify.toml."""
