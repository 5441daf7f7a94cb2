"""Does PAM let this user in with this password? Blocks, so it runs aside.

Imported only where PAM is asked for: python-pam is an extra.
"""

import pam


def ask_pam(service: str, user: str, password: str) -> str | None:
    """Give None when PAM accepts the password and the account, else the reason why it does not.

    user, password: as by `surrogateescape`.
    """
    # One for each question: it keeps its answer in itself.
    asked = pam.PamAuthenticator()
    accepted = asked.authenticate(
        user.encode("utf-8", "surrogateescape"),
        password.encode("utf-8", "surrogateescape"),
        service=service,
        resetcreds=False,
    )
    return None if accepted else f"PAM refuses: {_say(asked.reason)}"


def _say(reason: object) -> str:
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return text or "without a reason"
