"""The command line: one module for each command, and what they share.

Nothing here is imported by the library. Only :mod:`daemon` needs structlog, and only
:mod:`token` and :mod:`hub` need the extra ``hub``; ``send``, ``listen`` and ``status`` need none.
"""
