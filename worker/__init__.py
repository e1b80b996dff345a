"""The consumer, and the only place that talks to Replicate."""
