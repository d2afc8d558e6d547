"""Made-up images with the look of medical ones, drawn from a random generator and nothing else.

For the demo and the tests: no pixel here comes from a patient. This package knows no dataset, file or format.
"""

from tasks.phantoms.breasts import breast
from tasks.phantoms.chests import BOXED, Box, Phantom, chest
from tasks.phantoms.livers import Scan, liver
from tasks.phantoms.vertebrae import Vertebra, vertebra

__all__ = ["BOXED", "Box", "Phantom", "Scan", "Vertebra", "breast", "chest", "liver", "vertebra"]
