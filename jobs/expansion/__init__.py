"""One row of a prompts file becomes many."""
