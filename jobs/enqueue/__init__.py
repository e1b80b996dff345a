"""Prompts become a batch, and a batch becomes shards."""
