"""Telling that two images show the same picture, whatever was done to one of them: turned, mirrored, cropped a little,
brightened, equalised, compressed, scaled.

Three steps, each on thumbnails of 64 × 64: a *fingerprint* that turning, mirroring and contrast leave as it is
(:mod:`~tasks.fingerprints.polar`), a *search* for the nearest fingerprints (:mod:`~tasks.fingerprints.search`), and an
*alignment* of the few pairs that were found, whose correlation decides (:mod:`~tasks.fingerprints.alignment`). What
the threshold is worth is measured on every dataset's own images (:mod:`~tasks.fingerprints.calibration`).
"""
