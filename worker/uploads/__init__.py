"""Local files of inputs: uploaded once by content, and deleted at the end of their batch."""
