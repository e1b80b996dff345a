"""What the dashboard knows of each prompt of a batch: a SQLite file, filled from the folder as prompts settle."""
