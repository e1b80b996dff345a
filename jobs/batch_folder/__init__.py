"""A batch on disk: its manifest, its copy of the prompts, its results, its gallery."""
