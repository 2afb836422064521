"""The wire: file descriptors 0 and 1, and nothing else touches them."""
