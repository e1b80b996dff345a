"""Local files as inputs: found and hashed when a file is enqueued, uploaded by a worker."""
