"""DICOM files as a raw form: headers to a table, frames to pixels, and what must not leave a file kept in it.

pydicom and its decoders come with the extra ``dicom``, and are imported where they are needed: without it every other
dataset works.
"""
