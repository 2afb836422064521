"""Counts what a GPU would launch, on a machine without one; see docs/data/counts.md.

`graph.cpp` has MLX build the graph of a GPU and print it; `graph` reads that, `launches` counts it.
"""
