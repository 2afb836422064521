"""A manifest → error rates, speed and memory of several configurations, and their report."""
