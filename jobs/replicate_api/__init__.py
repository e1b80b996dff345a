"""Replicate's HTTP API: one client, one mapping of errors, and the only place that holds the token."""
