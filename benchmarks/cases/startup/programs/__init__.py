"""The smallest programs that receive, each with one library: ``program.py HOST PORT ACCOUNT``."""
