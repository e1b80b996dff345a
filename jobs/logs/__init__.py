"""Log lines: for people, or as JSON objects for machines."""
