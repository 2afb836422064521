"""Random checkpoints, clips, and the two reference implementations that write the golden tensors."""
