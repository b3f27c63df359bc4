"""``trio-signal demo``: a bot, a chatty correspondent and a gateway that fails, all on this machine.

``run`` puts it together; ``stage`` has the people, ``acts`` breaks things, ``record``
notes what happened, ``audit`` compares both sides, ``frame``, ``plain`` and ``summary``
show it.
"""
