"""The one error of this package that is about data."""


class ReleaseRefused(Exception):
    """A release, or an image of it, that is not what its manifest says, or that nobody should train from."""
