"""The session of one client: its requests and results. Pure: no thread, no descriptor; the clock is an argument."""
