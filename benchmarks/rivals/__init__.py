"""What other libraries do in several cases: a module for each, which runs in that peer's own environment.

They import the standard library and their own peer, and of :mod:`benchmarks` only what does the same.
"""
