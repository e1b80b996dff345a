"""A prompts file becomes valid prompts, or the list of all its errors."""
