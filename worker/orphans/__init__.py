"""Orphans: predictions that no ledger entry points to."""
