"""Benchmarks: ``make bench``, or ``python -m tests.bench --help``.

Every figure is of a whole process tree, started anew for each repeat, with the page cache warm. scanmill, the floor and
the peers take turns, repeat by repeat, so that a machine that slows down slows all; ratios are taken within a turn,
and least, median and most of the turns are told. What each row means is in :mod:`tests.bench.rows`; how the peers are
driven, in :mod:`tests.bench.conversion_peers` and :mod:`tests.bench.loader_peers`. Nothing here is a test of
correctness but one thing: floor and scanmill must have written the same pixels, or their times are not comparable.

Beside them: ``python -m tests.bench.rehearsal`` runs the real command on releases of published size or a share of it,
which ``python -m tests.bench.fast_releases`` writes.
"""
