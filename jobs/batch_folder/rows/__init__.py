"""What the result files and the gallery have of each prompt: built from its record, kept in segments, merged."""
