"""A simulator of Replicate's HTTP API, for the demo, tests, benchmarks and development."""
