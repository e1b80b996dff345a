"""What a worker tells about itself: metrics for Prometheus, spans for OpenTelemetry."""
