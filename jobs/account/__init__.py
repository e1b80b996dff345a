"""What concerns a whole account at one API host: its pauses, its rate limits, its workers, what people did."""
