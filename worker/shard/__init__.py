"""One arq job: a shard's run, its record, its rescue, and the end of its batch."""
