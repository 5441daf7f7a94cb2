"""What is to be known of one text before it is sent anywhere? Pure.

Asked once for each text that was not seen before; the relay remembers the answer.
"""

import hashlib
from dataclasses import dataclass

from proxy.routing.rules import Applying, Rule
from proxy.sql import Facts, Verdict

# Statements that are no reads and change nothing that another session could read.
_OF_THE_SESSION = frozenset(
    {
        "SET",
        "RESET",
        "SHOW",
        "DISCARD",
        "LISTEN",
        "UNLISTEN",
        "DEALLOCATE",
        "PREPARE",
        "BEGIN",
        "START TRANSACTION",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT",
        "RELEASE",
        "ROLLBACK TO",
    }
)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is known of a text.

    reads_only: a replica may run it, and nobody can tell. reads_by_default: so it is, if what
    begins in it without a word about writing does not write. of_the_session: nothing is written
    that a later read could see. target: where a rule sends it. rejected_by: the rule that refuses
    it. timeout_s: 0 is none. logged_by: the rule that wants it logged.
    """

    reads_only: bool
    reads_by_default: bool = False
    of_the_session: bool = False
    target: str | None = None
    rejected_by: Rule | None = None
    timeout_s: float = 0.0
    logged_by: Rule | None = None


def decide(text: str, key: bytes, verdict: Verdict, applying: Applying) -> Choice:
    """Say what is to be known of a text.

    text: as it was sent. key: what the lexer made of it, empty when it cannot be read.
    The first rule that matches and says where to decides that, and likewise for each other thing
    that rules do. A rule about statements does not send to a replica what certainly writes.
    """
    target = None
    rejected_by = logged_by = None
    timeout_s = 0.0
    settled = False
    for rule in applying.rules:
        route = rule.route
        if not _matches(rule, text, key, verdict):
            continue
        if not settled and (route.to is not None or route.reject):
            settled = True
            if route.reject:
                rejected_by = rule
            elif not (
                route.match.is_by_statement
                and route.to != "primary"
                and any(may_change(facts) for facts in verdict.statements)
            ):
                target = route.to
        if route.timeout and not timeout_s:
            timeout_s = route.timeout
        if route.log and logged_by is None:
            logged_by = rule
    return Choice(
        reads_only=verdict.reads_only,
        reads_by_default=verdict.reads_by_default,
        of_the_session=_only_touches_session(verdict),
        target=target,
        rejected_by=rejected_by,
        timeout_s=timeout_s,
        logged_by=logged_by,
    )


def _matches(rule: Rule, text: str, key: bytes, verdict: Verdict) -> bool:
    match = rule.route.match
    if rule.pattern is not None and not (
        rule.pattern.search(text) or rule.pattern.search(key.decode("utf-8", "surrogateescape"))
    ):
        return False
    if match.fingerprint is not None and match.fingerprint != fingerprint_of(key):
        return False
    if match.table is None:
        return True
    return any(
        match.table in (name.name, str(name))
        for facts in verdict.statements
        for name in (*facts.reads, *facts.writes)
    )


def fingerprint_of(key: bytes) -> str:
    """A short name for all texts that differ in constants and comments alone."""
    return hashlib.blake2b(key, digest_size=8).hexdigest()


def may_change(facts: Facts) -> bool:
    """Whether a statement certainly is for the primary: it changes something that all can see."""
    return bool(facts.changes or facts.is_ddl or facts.copies == "from")


def _only_touches_session(verdict: Verdict) -> bool:
    return bool(verdict.statements) and all(
        facts.kind in _OF_THE_SESSION and not facts.changes for facts in verdict.statements
    )
