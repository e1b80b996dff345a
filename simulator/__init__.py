"""A stand-in for the HTTP API of Replicate: for the demo, tests, benchmarks and development."""
