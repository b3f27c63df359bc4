"""The cases: a package for each, found by :mod:`benchmarks.catalogue`."""
