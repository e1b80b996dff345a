"""From the URL of an output to a whole file in the batch's folder."""
