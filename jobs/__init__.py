"""Batches: how they are enqueued, stored and followed, and what workers share with producers."""
