"""Whether a batch's folder, its results and Redis agree."""
