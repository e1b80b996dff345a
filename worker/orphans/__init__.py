"""Predictions that nothing of ours points to."""
