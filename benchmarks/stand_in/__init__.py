"""A lean stand-in for Replicate's API and its file host, which must not be the bottleneck."""
