"""What Redis knows of batches, prompts and the account."""
