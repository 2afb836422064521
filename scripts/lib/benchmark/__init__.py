"""Speed and memory of the runtime and of its peers, side by side; see scripts/benchmark.

Every contender is a process that keeps its model loaded and answers commands over a pipe (`serve`), so that the rounds
of all of them can be interleaved (`plan`). Weights are random, audio is synthetic, end-of-text tokens are ignored: all
contenders do the same work on the same bytes, and `agreement` tells whether they came to the same tokens.
"""
