"""Parents and children in the tables: what one transaction writes, and who waits for whom."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_durable.client import new_runs
from django_durable.history import events, messages
from django_durable.history.status import Status
from django_durable.models import Dispatch, InboxMessage, WorkflowRun
from django_durable.payloads import codec
from django_durable.store import children, claims, database, dispatch, flush, inbox, runs, sends, starts
from django_durable.worker.child_starts import ChildStart, ChildStarts
from tests.flows import workflows
from tests.integration.store import chains
from tests.integration.store.sessions import all_at_once, paused

pytestmark = pytest.mark.django_db(transaction=True)


def child_of(parent: claims.Claimed, key: str = "k", **changes: Any) -> starts.NewRun:
    new = new_runs.of(workflows.echo, workflows.echo.encode_input((1,), {}))
    values: dict[str, Any] = {
        "definition": chains.DEFINITION,
        "parent_chain_id": parent.chain_id,
        "parent_run_id": parent.run_id,
        "parent_key": key,
        "parent_close": "terminate",
    }
    return new._replace(**values | changes)


def family(owner: int) -> tuple[claims.Claimed, claims.Claimed]:
    """A parent and its child, both in the owner's hands."""
    parent = chains.owned(owner)
    new = child_of(parent)
    assert chains.verdicts(flush.flush(owner, [chains.write(parent, children=(new,))])) == ["written"]
    [child] = chains.claim(owner)
    assert child.run_id == new.run_id
    return parent, child


def end_of(child: claims.Claimed, parent: claims.Claimed) -> flush.RunWrite:
    write = chains.write(child, ends=True)
    assert write.ending is not None
    ending = write.ending._replace(parent=children.Parent(parent.chain_id, "k"))
    return flush.RunWrite(
        chain_id=write.chain_id, run_id=write.run_id, epoch=write.epoch, events=write.events, ending=ending
    )


def answers(chain: UUID) -> list[Any]:
    return [one.message for one in inbox.read([chain])[chain]]


# Starting


def test_a_child_is_inserted_with_the_event_that_asks_for_it_or_not_at_all():
    owner, other = chains.worker(), chains.worker()
    parent = chains.owned(owner)
    new = child_of(parent)
    assert chains.verdicts(flush.flush(other, [chains.write(parent, events=0, children=(new,))])) == ["gone"]
    assert WorkflowRun.objects.count() == 1
    result = flush.flush(owner, [chains.write(parent, children=(new,))])
    assert chains.verdicts(result) == ["written"]
    assert result.started == {"default"}
    run = WorkflowRun.objects.get(pk=new.run_id)
    assert (run.parent_chain_id, run.parent_run_id, run.parent_key) == (parent.chain_id, parent.run_id, "k")


@pytest.mark.server
def test_a_thousand_children_are_a_few_statements():
    owner = chains.worker()
    parent = chains.owned(owner)
    new = tuple(child_of(parent, f"k{number}") for number in range(1_000))
    with CaptureQueriesContext(
        connection,
    ) as one:
        flush.flush(owner, [chains.write(parent, children=new[:1])])
    with CaptureQueriesContext(connection) as many:
        flush.flush(owner, [chains.write(parent, events=0, children=new[1:])])
    assert WorkflowRun.objects.count() == 1_001
    assert len(many) <= len(one) + 1  # the look at a row that an event would have spared


def test_a_child_whose_id_is_taken_all_the_same_is_told_to_its_parent():
    owner = chains.worker()
    parent = chains.owned(owner)
    taken = WorkflowRun.objects.get().workflow_id
    result = flush.flush(owner, [chains.write(parent, children=(child_of(parent, workflow_id=taken),))])
    assert chains.verdicts(result) == ["written"]
    assert result.told == {parent.chain_id}
    [answer] = answers(parent.chain_id)
    assert isinstance(answer, messages.ChildStart)
    assert answer.failure is not None
    assert answer.failure.type == "WorkflowAlreadyStarted"


def start_of(parent: claims.Claimed, **changes: Any) -> ChildStart:
    definition = workflows.echo.using(workflow_id="named")
    new = child_of(parent, workflow_id="named")
    return ChildStart(parent.chain_id, parent.epoch, "k", new, definition)._replace(**changes)


def make(owner: int, start: ChildStart) -> bool:
    made = ChildStarts(owner, threaded=False, told=lambda chain: None)
    made.ask(start)
    return made.work()


def test_a_start_is_made_once_and_answered_once():
    owner = chains.worker()
    start = start_of(chains.owned(owner))
    assert make(owner, start)
    assert make(owner, start)  # as somebody does who has not heard of it
    assert WorkflowRun.objects.filter(workflow_id="named").count() == 1
    assert answers(start.chain_id) == [messages.ChildStart(key="k")]


@pytest.mark.parametrize("lost", ["claim", "chain"])
def test_a_start_is_not_made_for_a_parent_that_somebody_else_has(lost):
    owner = chains.worker()
    start = start_of(chains.owned(owner))
    if lost == "claim":
        start = start._replace(epoch=start.epoch - 1)
    else:
        Dispatch.objects.all().delete()
    assert make(owner, start)  # nothing is left to do
    assert not WorkflowRun.objects.filter(workflow_id="named").exists()
    assert not InboxMessage.objects.exists()


@pytest.mark.server
def test_a_start_waits_for_a_parent_that_is_ending_and_makes_nothing_once_it_has():
    owner = chains.worker()
    parent = chains.owned(owner)
    start = start_of(parent)

    def ends() -> None:
        dispatch.locked_for_end([parent.chain_id])
        runs.close([chains.write(parent, ends=True).ending])  # type: ignore[list-item]

    with paused(ends):
        assert not make(owner, start)
    assert make(owner, start)
    assert not WorkflowRun.objects.filter(workflow_id="named").exists()


@pytest.mark.server
def test_a_start_that_meets_an_uncommitted_one_of_its_id_gives_up_for_now():
    owner = chains.worker()
    start = start_of(chains.owned(owner))
    with paused(lambda: chains.start(workflow_id="named")) as other:
        assert not make(owner, start)
        other.rollback()
        assert make(owner, start)
    assert WorkflowRun.objects.get(workflow_id="named").pk == start.new.run_id


@pytest.mark.server
@pytest.mark.parametrize("policy", ["fail", "terminate_existing"])
def test_a_start_that_a_zombie_is_making_as_well_is_made_once(policy):
    """Its owner was declared dead in the middle of it, and the next owner makes the start too."""
    owner = chains.worker()
    parent = chains.owned(owner)
    definition = workflows.echo.using(workflow_id="named", on_conflict=policy)
    start = start_of(parent, definition=definition)
    zombie = ChildStarts(owner, threaded=False, told=lambda chain: None)
    with paused(lambda: zombie._make(start)):
        taken_over = Dispatch.objects.filter(pk=parent.chain_id)
        assert taken_over.update(epoch=parent.epoch + 1) == 1  # recovery and claim wait for nobody
        assert not make(owner, start._replace(epoch=parent.epoch + 1))
    assert make(owner, start._replace(epoch=parent.epoch + 1))
    assert answers(start.chain_id) == [messages.ChildStart(key="k")]
    assert WorkflowRun.objects.get(workflow_id="named").status == "running"


# Replies


def test_the_end_of_a_child_and_the_reply_are_one():
    owner = chains.worker()
    parent, child = family(owner)
    result = flush.flush(owner, [end_of(child, parent)])
    assert chains.verdicts(result) == ["written"]
    assert result.told == {parent.chain_id}
    [reply] = answers(parent.chain_id)
    assert (reply.key, reply.status) == ("k", "completed")


@pytest.mark.server
@pytest.mark.parametrize("commits", [True, False])
def test_a_reply_waits_until_it_is_known_whether_its_parent_ends(commits):
    owner = chains.worker()
    parent, child = family(owner)

    def ends() -> None:
        dispatch.locked_for_end([parent.chain_id])
        runs.close([chains.write(parent, ends=True).ending])  # type: ignore[list-item]

    with paused(ends) as ending:
        assert chains.verdicts(flush.flush(owner, [end_of(child, parent)])) == ["busy"]
        assert runs.terminate(child.chain_id, events.RunTerminated(), "{}") is None
        if not commits:
            ending.rollback()
    result = flush.flush(owner, [end_of(child, parent)])
    assert chains.verdicts(result) == ["written"]
    assert len(answers(parent.chain_id)) == (0 if commits else 1)
    assert InboxMessage.objects.count() == (0 if commits else 1)


@pytest.mark.server
def test_a_parent_does_not_end_while_a_reply_is_on_its_way_and_then_finds_it():
    owner = chains.worker()
    parent, child = family(owner)
    with paused(lambda: flush._write(owner, [end_of(child, parent)], [], flush.Result(verdicts={}))):
        assert chains.verdicts(flush.flush(owner, [chains.write(parent, ends=True)])) == ["busy"]
    parent_write = flush.RunWrite(
        chain_id=parent.chain_id,
        run_id=parent.run_id,
        epoch=parent.epoch,
        events=(chains.event(parent.run_id, 3),),
        ending=chains.write(parent, ends=True).ending,
    )
    assert chains.verdicts(flush.flush(owner, [parent_write])) == ["redo"]


def test_a_parent_and_its_child_may_end_in_one_flush():
    owner = chains.worker()
    parent, child = family(owner)
    parent_write = flush.RunWrite(
        chain_id=parent.chain_id,
        run_id=parent.run_id,
        epoch=parent.epoch,
        events=(chains.event(parent.run_id, 3),),
        ending=chains.write(parent, ends=True).ending,
    )
    assert chains.verdicts(flush.flush(owner, [end_of(child, parent), parent_write])) == ["written"] * 2
    assert not InboxMessage.objects.exists()
    assert not Dispatch.objects.exists()


# Messages to others


def signal(**changes: Any) -> sends.Send:
    message = messages.Signal(name="ping", payload=codec.encode(None, what="The signal"))
    return sends.Send(message, answer="k")._replace(**changes)


def test_a_message_and_its_answer_are_written_with_the_request():
    owner = chains.worker()
    sender, target = chains.owned(owner), chains.start(workflow_id="target")
    result = flush.flush(owner, [chains.write(sender, sends=(signal(workflow_id="target"),))])
    assert chains.verdicts(result) == ["written"]
    assert result.told == {sender.chain_id, target}
    assert chains.waiting(target) == ["ping"]
    assert answers(sender.chain_id) == [messages.ExternalResult(key="k")]


@pytest.mark.server
def test_a_message_to_a_workflow_that_is_ending_waits_for_what_becomes_of_it():
    owner = chains.worker()
    sender, target = chains.owned(owner), chains.start(workflow_id="target")
    write = chains.write(sender, sends=(signal(workflow_id="target"),))

    def ends() -> None:
        dispatch.locked_for_end([target])
        runs.close([runs.Ending(target, target, Status.COMPLETED, result=chains.RESULT)])

    with paused(ends):
        assert chains.verdicts(flush.flush(owner, [write])) == ["busy"]
    assert chains.verdicts(flush.flush(owner, [write])) == ["written"]
    [answer] = answers(sender.chain_id)
    assert answer.failure.type == "WorkflowClosed"
    assert not InboxMessage.objects.filter(chain_id=target).exists()


def test_a_message_to_a_workflow_that_ends_in_the_same_flush_waits():
    owner = chains.worker()
    sender = chains.owned(owner)
    chains.start(workflow_id="target")
    [target] = chains.claim(owner)
    write = chains.write(sender, sends=(signal(workflow_id="target"),))
    result = flush.flush(owner, [write, chains.write(target, ends=True)])
    assert chains.verdicts(result) == ["busy", "written"]
    assert chains.verdicts(flush.flush(owner, [write])) == ["written"]


# Orphans


def orphans(owner: int, count: int = 3) -> list[UUID]:
    """Open children of a parent that has ended."""
    parent = chains.owned(owner)
    new = tuple(child_of(parent, f"k{number}") for number in range(count))
    flush.flush(owner, [chains.write(parent, children=new)])
    with database.writing():
        dispatch.locked_for_end([parent.chain_id])
        runs.close([chains.write(parent, ends=True).ending])  # type: ignore[list-item]
    return [one.run_id for one in new]


def test_an_orphan_is_told_once_whoever_sweeps():
    found = orphans(chains.worker(), 10)
    told = all_at_once([children.tell_orphans] * (4 if database.is_postgres() else 1))
    assert sorted(chain for one in told for chain in one.terminated) == sorted(found)
    assert InboxMessage.objects.count() == 10
    assert not children.tell_orphans()


@pytest.mark.server
def test_an_orphan_whose_row_is_locked_is_left_for_the_next_sweep():
    first, *others = orphans(chains.worker())
    with paused(lambda: dispatch.locked_for_end([first])):
        assert children.tell_orphans().terminated == set(others)
    assert children.tell_orphans().terminated == {first}


def test_children_of_a_parent_that_lives_are_left_alone():
    owner = chains.worker()
    family(owner)
    assert not children.tell_orphans()
    assert not InboxMessage.objects.exists()
