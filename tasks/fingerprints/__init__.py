"""Telling that two images show the same picture, whatever was done to one of them: turned, mirrored, cropped a little,
brightened, equalised, compressed, scaled.

Four steps: a *fingerprint* that turning, mirroring and contrast leave as it is (:mod:`~tasks.fingerprints.polar`), a
*search* for the nearest fingerprints (:mod:`~tasks.fingerprints.search`), a *glance* at all pairs that were found
(:mod:`~tasks.fingerprints.glance`), and an *alignment* of the few that could agree, whose correlation decides
(:mod:`~tasks.fingerprints.alignment`). What
the threshold is worth is measured on every dataset's own images (:mod:`~tasks.fingerprints.calibration`).
"""
