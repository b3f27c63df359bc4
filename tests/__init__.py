"""The tests of trio_signal: one file for each module, and a few for the whole."""
