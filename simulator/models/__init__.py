"""What models there are: their schemas and versions, what they make of an input, and what that costs."""
