"""schedules.toml: which batch begins when."""
