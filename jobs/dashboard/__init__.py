"""Pages in a browser that show batches as they run, and let people steer and rate them."""
