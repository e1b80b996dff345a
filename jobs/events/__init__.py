"""What happened to batches: a log of each, in Redis, and in its folder when it is finished."""
