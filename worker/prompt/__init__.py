"""The way of one prompt, from its place in the ledger to its result on disk."""
