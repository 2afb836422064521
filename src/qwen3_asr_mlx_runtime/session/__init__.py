"""What one client asked for and is owed. Pure: no thread, no descriptor; the clock is an argument."""
