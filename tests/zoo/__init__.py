"""Hostile and damaged inputs, each with its outcome written down beside it: ``python -m tests.zoo`` shows them all."""
