"""What stands behind `Engine`: the interface, and the values that cross it."""
