"""The benchmarks: what trio_signal costs, beside the same work done with the plain libraries.

::

    python -m benchmarks                                   all cases, quickly
    python -m benchmarks list
    python -m benchmarks run [NAME ...] [--rounds N] [--quick] [--json FILE]

A case has *contenders* that do the same work. Each measurement is one contender in a
fresh process on one CPU against a fresh generator on another: a gateway made of raw
sockets or, where the contender is a server, its clients made of the same. The contenders
take turns, A B C then C B A, so that a machine that grows slower meanwhile slows all of
them, and only ratios inside one run are to be believed. Generator and contender each
write down what they have written and read; a contender whose count, contents or order
differ has failed, and so has one that raises or takes too long. A failure is shown in
the place of the figures and makes the exit status 1.

To add a contender, write a function that takes a :class:`~benchmarks.contender.Gateway`
and the case's parameters and returns a :class:`~benchmarks.contender.Measurement`, in a
module that imports only what that contender needs, and name it in the case.
"""
