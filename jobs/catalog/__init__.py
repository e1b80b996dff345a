"""What the models of a batch are, and whether its rows meet their schemas."""
