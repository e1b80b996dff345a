"""Everything that makes a request or a prompt wait."""
