"""`make demo`: the whole job offline, against the simulator, with failures that are planned and checked."""
