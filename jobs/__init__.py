"""The contract and the producers: what is asked for, and how it is followed."""
