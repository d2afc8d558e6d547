"""Made-up grey images with the look of medical ones, drawn from a random generator and nothing else.

For the demo and the tests: no pixel here comes from a patient. This package knows no dataset, file or format.
"""

from tasks.phantoms.breasts import breast
from tasks.phantoms.chests import BOXED, Box, Phantom, chest

__all__ = ["BOXED", "Box", "Phantom", "breast", "chest"]
