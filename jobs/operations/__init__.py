"""What people do to batches, whether they type a command or press a button."""
