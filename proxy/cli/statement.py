"""`pgweir check --sql`: what would this statement do, and why?"""

from collections.abc import Iterator

from proxy.routing import fingerprint_of
from proxy.sql import Catalogue, Classifier, Facts, Lexed, Verdict, builtin_volatility


def describe(text: str) -> list[str]:
    """Say what a statement would do, in a few lines; the first is the verdict.

    Of functions, only PostgreSQL's own are known here.
    """
    classifier = Classifier(Catalogue(builtin_volatility))
    lexed, verdict = classifier.classify(text.encode("utf-8", "surrogateescape"))
    return list(_lines(lexed, verdict))


def _lines(lexed: Lexed, verdict: Verdict) -> Iterator[str]:
    if verdict.reads_only:
        yield "only reads: a replica may run it"
    else:
        yield "for the primary:"
        for reason in verdict.reasons:
            yield f"  it {reason}"
    if lexed.target is not None or lexed.consistency_key is not None or lexed.has_odd_hint:
        yield f"hint: {_hint(lexed)}"
    for facts in verdict.statements:
        yield _statement(facts)
    for effect in verdict.effects:
        subject = f": {effect.subject}" if effect.subject else ""
        yield f"session: {effect.touch}{subject}"
    if lexed.trouble is None:
        yield f"key: {lexed.key.decode('utf-8', 'replace')}"
        yield f"fingerprint: {fingerprint_of(lexed.key)}"


def _hint(lexed: Lexed) -> str:
    parts = []
    if lexed.target == "role":
        parts.append(f"role {lexed.role}")
    elif lexed.target is not None:
        parts.append(lexed.target)
    if lexed.consistency_key is not None:
        parts.append(f"key {lexed.consistency_key}")
    if lexed.has_odd_hint:
        parts.append("and something that is no hint")
    return ", ".join(parts)


def _statement(facts: Facts) -> str:
    kind = f"{facts.kind} of {facts.inner}" if facts.inner else facts.kind
    parts = [
        f"{verb} {', '.join(str(name) for name in sorted(names))}"
        for verb, names in (
            ("reads", facts.reads),
            ("writes", facts.writes),
            ("calls", {call.function for call in facts.calls}),
        )
        if names
    ]
    return f"{kind}: {'; '.join(parts)}" if parts else kind
