"""What the data look like and whether they can be trusted: the data-quality report of one release.

Entry: ``tasks.quality.page``, with ``ReportFacts`` and ``build``; nothing is imported here, because drawing takes
matplotlib and jinja2, half a second that other users of the package are spared.
"""
