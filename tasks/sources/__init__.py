"""How bytes arrive: one module per kind of source. ``local`` reads what the user already has, where it lies."""
