"""The command line: one module for each command, and what they share.

Nothing here is imported by the library. Only :mod:`daemon` needs structlog; ``send``,
``listen`` and ``status`` need no extra.
"""
