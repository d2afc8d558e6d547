"""The statistics of an evaluation, as plain functions of arrays; :mod:`tasks.learning.scores` puts them together."""
