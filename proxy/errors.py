"""The three kinds of failure that may leave a pure room, and nothing else does.

`PeerError`: they broke the protocol. `ClientError`: a reply we owe them, with its SQLSTATE.
`ProxyBug`: we were wrong. Every room may raise them; only the top of a task catches `ProxyBug`.
"""


class PeerError(Exception):
    """A peer sent what the protocol forbids; its connection is closed.

    sqlstate: five characters, `08P01` (protocol_violation) unless a better one is known.
    """

    def __init__(self, message: str, sqlstate: str = "08P01") -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate


class ClientError(Exception):
    """A refusal that the client is told of in an ErrorResponse.

    sqlstate: five characters, PostgreSQL documentation, appendix "PostgreSQL Error Codes".
    message: what happened. detail: facts for the operator. hint: what the reader can do.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint


class ProxyBug(Exception):  # noqa: N818 -- it is a verdict on us, named so
    """We were wrong. Logged with what was being done; the connections involved are closed."""
