"""Tests against real processes, which `make test-real` runs."""
