"""Expected texts and predictions → error rates."""
