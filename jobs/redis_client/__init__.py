"""Connecting to Redis, and waiting while it is down."""
