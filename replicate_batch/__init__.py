"""The command `replicate-batch`: what jobs, worker and simulator can do, under one name."""
