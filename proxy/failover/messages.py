"""Notices and answers as they stand in a store: JSON, read as a stranger's. Pure."""

import json
from dataclasses import asdict

from proxy.failover.lease import Answer, Member, Notice


def write_notice(notice: Notice) -> str:
    """As text."""
    return json.dumps(asdict(notice))


def read_notice(text: str | None) -> Notice | None:
    """From text; None where it is not one, as of a version that is to come."""
    try:
        told = json.loads(text or "null")
        return Notice(
            str(told["number"]),
            str(told["old"]),
            str(told["successor"]),
            is_holding=bool(told["is_holding"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def write_answer(answer: Answer) -> str:
    """As text."""
    return json.dumps(asdict(answer))


def read_answer(text: str) -> Answer | None:
    """From text; None where it is not one."""
    try:
        told = json.loads(text)
        member = told["member"]
        return Answer(
            str(told["number"]),
            Member(str(member["name"]), str(member["proxy"]), int(member["processes"])),
            is_holding=bool(told["is_holding"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
