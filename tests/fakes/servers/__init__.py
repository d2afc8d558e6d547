"""Servers on loopback that answer like the publishers' hosts, one module per host; what they share is in ``http``."""
