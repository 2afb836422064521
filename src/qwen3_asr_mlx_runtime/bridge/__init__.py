"""Everything with a thread or a descriptor: standard input and output, files, signals, the control loop."""
