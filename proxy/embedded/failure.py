"""What can go wrong with a cluster of our own, in the operator's words."""


class EmbeddedError(Exception):
    """The cluster could not do what was asked; the text is one line that says why."""


class PortTaken(EmbeddedError):  # noqa: N818 -- the fact is the name
    """Somebody else listens on the port a node was given; another port may do."""
