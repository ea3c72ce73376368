"""Where a verb is called: in a transaction of ours it is a part of it, in another database's it is not."""

from __future__ import annotations

import logging

from django_durable import conf
from django_durable.engine import loop
from django_durable.exceptions import ForeignTransaction, UnsupportedInWorkflow
from django_durable.store import database

logger = logging.getLogger("django_durable")


def check(verb: str) -> None:
    """Refuse, or warn of, a transaction that is open on other databases alone. Raises ``ForeignTransaction``.

    Raises ``UnsupportedInWorkflow`` in the code of a workflow.
    """
    check_code(verb)
    others = database.foreign_transactions()
    if not others or database.in_transaction():
        return
    policy = conf.current().OTHER_TRANSACTIONS
    if policy == "allow":
        return
    ours = database.alias()
    message = (
        f"{verb} was called inside a transaction on {others[0]!r}, but workflows are on {ours!r}: a worker may act "
        f"on it before that transaction has committed, or although it is rolled back. Call it once that has committed, "
        f"transaction.on_commit(..., using={others[0]!r}), or, if nothing depends on that, set "
        f"DURABLE['OTHER_TRANSACTIONS'] to 'warn' or 'allow'."
    )
    if policy == "refuse":
        raise ForeignTransaction(message)
    logger.warning(message)


def check_code(verb: str) -> None:
    """Refuse what the code of a workflow may not do. Raises ``UnsupportedInWorkflow``."""
    if loop.is_running_here():
        raise UnsupportedInWorkflow(
            f"{verb} was called by the code of a workflow, and each replay would do so again. Use ctx.start_child(...) "
            f"to start another workflow, ctx.get_workflow(workflow_id) to signal or cancel one, or an activity."
        )
