"""What a running worker reports: that it is up, its gauges, and what people should be told."""
