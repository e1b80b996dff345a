"""The prompts of a batch as cards with their outputs: shown, compared, rated, and their files served."""
