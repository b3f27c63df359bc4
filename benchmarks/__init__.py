"""The benchmarks: what trio_signal costs, beside the same work done with other libraries.

::

    python -m benchmarks                                   all cases, quickly
    python -m benchmarks list
    python -m benchmarks prepare [PEER ...]
    python -m benchmarks run [NAME ...] [--rounds N] [--quick] [--let-sleep] [--json FILE] [--check]
    python -m benchmarks report [FILE ...] [--output FILE]

A case has *contenders* that do the same work. Each measurement is one contender in a
fresh process on one CPU against a fresh generator on another: a gateway made of raw
sockets or, where the contender is a server, its clients made of the same. The contenders
take turns, A B C then C B A, so that a machine that grows slower meanwhile slows all of
them, and only ratios inside one run are to be believed. Generator and contender each
write down what they have written and read; a contender whose count, contents or order
differ has failed, and so has one that raises or takes too long. A failure is shown in
the place of the figures and makes the exit status 1.

Other libraries are *peers*: each has an environment of its own below ``.cache/peers``,
made of the pinned packages that a file in :mod:`benchmarks.peers` names. One that cannot
be brought is "not measured", with the reason, and no failure.

To add a contender, write a function that takes a :class:`~benchmarks.contender.Gateway`
and the case's parameters and returns a :class:`~benchmarks.contender.Measurement`, in a
module that imports only what that contender needs, and name it in the case. If it runs
in a peer's environment, that is the standard library and the peer.
"""
