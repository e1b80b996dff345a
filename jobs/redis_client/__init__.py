"""Connecting to Redis, and outliving its absence."""
