"""How the worker learns that predictions have ended."""
