"""What several rules propose alike is one proposal: asked once, done once, with all that was found named."""

from collections.abc import Callable

import msgspec

from sitter.model import Finding, Notification, Proposable, Proposal

WHY = ("why", "text")
"""Fields that say for what an action is, and not what it does."""


def alike(one: list[Proposable], other: list[Proposable]) -> bool:
    """Whether both do the same: the same actions, whatever for. To do nothing, or to tell somebody only, is never the same."""
    if all(isinstance(action, Notification) for action in one):
        return False
    return len(one) == len(other) and all(any(_same(a, b) for b in other) for a in one)


def _same(one: Proposable, other: Proposable) -> bool:
    return type(one) is type(other) and _bare(one) == _bare(other)


def _bare(action: Proposable) -> Proposable:
    return msgspec.structs.replace(action, **{field: "" for field in WHY if hasattr(action, field)})


def everyone(proposal: Proposal) -> list[Finding]:
    """All that was found, the first for whose sake it is made."""
    return [proposal.finding, *proposal.also]


def joined(proposal: Proposal, finding: Finding, due: float | None) -> Proposal:
    """With another rule's finding. Where that may act unasked and the others ask, it is made for its sake, and in its time."""
    if proposal.due is None and due is not None:
        return msgspec.structs.replace(proposal, finding=finding, also=everyone(proposal), due=due)
    sooner = proposal.due if due is None or proposal.due is None else min(due, proposal.due)
    return msgspec.structs.replace(proposal, also=[*proposal.also, finding], due=sooner)


def without(proposal: Proposal, gone: Callable[[Finding], bool], acts: Callable[[str], bool]) -> Proposal | None:
    """What is left of it without some findings; None: nothing. Where none of its rules ``acts`` any more it waits for an answer."""
    left = [finding for finding in everyone(proposal) if not gone(finding)]
    if not left:
        return None
    left.sort(key=lambda finding: not acts(finding.rule))
    due = proposal.due if acts(left[0].rule) else None
    return msgspec.structs.replace(proposal, finding=left[0], also=left[1:], due=due)
