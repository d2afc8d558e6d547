"""Benchmarks: ``make bench``, or ``python -m tests.bench --help``.

Every figure is of a whole process tree, started anew for each repeat, with the page cache warm. The floor and scanmill
take turns, repeat by repeat, so that a machine that slows down slows both; the ratio is taken within a turn, and its
median is reported. What each row means is in :mod:`tests.bench.rows`. Nothing here is a test of correctness but one
thing: floor and scanmill must have written the same image bytes, or their times are not comparable.

Beside them: ``python -m tests.bench.rehearsal`` runs the real command on releases of published size or a share of it,
which ``python -m tests.bench.fast_releases`` writes.
"""
