"""The calls that the simulator answers."""
