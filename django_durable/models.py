"""The tables. Fields, constraints and text only; readable filters are in ``querysets``, verbs in ``store``."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from django_durable import querysets
from django_durable.definitions.queue import ACTIVITIES, COUNTED
from django_durable.history.replies import State
from django_durable.history.status import Status
from django_durable.moments import MomentField


class WorkflowRun(models.Model):
    """One execution of a workflow. Written at its start, when its details change, and at its close."""

    id = models.UUIDField(primary_key=True, verbose_name="run id")
    chain_id = models.UUIDField(db_index=True, help_text="The first run of this run's chain.")
    workflow_id = models.CharField(max_length=255, help_text="The caller's own name for this piece of work.")
    open_workflow_id = models.CharField(max_length=255, null=True, unique=True, editable=False)
    name = models.CharField(max_length=255, help_text="Name of the workflow's definition.")
    version = models.CharField(max_length=64, default="")
    fingerprint = models.CharField(max_length=64, default="", help_text="Of the code that started the run.")
    queue = models.CharField(max_length=100)
    priority = models.SmallIntegerField(default=0)
    partition_key = models.CharField(
        max_length=255, default="", db_default="", help_text="Whose work it is, in a queue."
    )
    status = models.CharField(
        max_length=20, choices=[(status.value, status.value.replace("_", " ")) for status in Status]
    )
    input = models.TextField()
    result = models.TextField(null=True)
    failure = models.TextField(null=True)
    blocked = models.TextField(null=True, help_text="Why the run is blocked.")
    lingering = models.TextField(null=True, help_text="Handlers that it waits for, and signals that nobody has taken.")
    label = models.CharField(max_length=255, default="", db_default="", help_text="The caller's words for people.")
    progress = models.TextField(null=True, help_text="What the run says it is doing.")
    headers = models.TextField(null=True, help_text="What surrounds the run: language, time zone, actor, trace.")
    attempt = models.IntegerField(default=1, db_default=1, help_text="Counts the runs of one chain that were retries.")
    retry = models.TextField(null=True, help_text="The policy by which a failed run is tried again.")
    run_timeout = models.DurationField(null=True, help_text="How long each run of the chain may take.")
    execution_deadline = MomentField(null=True, help_text="When the whole chain must have ended.")
    continued_from = models.UUIDField(null=True, help_text="The run before this one in its chain.")
    parent_chain_id = models.UUIDField(null=True)
    parent_run_id = models.UUIDField(null=True, help_text="The run that started this one as its child.")
    parent_key = models.CharField(max_length=64, null=True, help_text="Under which its parent waits for it.")
    parent_close = models.CharField(max_length=10, default="", db_default="")
    subject_type = models.CharField(max_length=200, null=True, help_text="Label of the model that the run is about.")
    subject_id = models.CharField(max_length=255, null=True, help_text="Primary key of the row that it is about.")
    open_subject = models.CharField(max_length=460, null=True, unique=True, editable=False)
    open_singleton = models.CharField(max_length=511, null=True, unique=True, editable=False)
    schedule = models.CharField(max_length=255, null=True, help_text="The schedule that started it.")
    created_at = MomentField()
    started_at = MomentField(null=True)
    closed_at = MomentField(null=True)

    objects = querysets.RunQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "workflow run"
        permissions = (("act_on_workflowrun", "Can cancel, terminate, pause, resume, retry and reset workflow runs"),)
        indexes = (
            models.Index(fields=["workflow_id", "-created_at"], name="durable_run_workflow_id"),
            models.Index(fields=["status", "-created_at"], name="durable_run_status"),
            models.Index(fields=["name", "-created_at"], name="durable_run_name"),
            models.Index(fields=["-created_at"], name="durable_run_created"),
            models.Index(fields=["closed_at"], name="durable_run_closed", condition=Q(closed_at__isnull=False)),
            models.Index(
                fields=["name", "status", "closed_at", "id"],
                name="durable_run_ended",
                condition=Q(closed_at__isnull=False),
            ),
            models.Index(
                fields=["parent_chain_id", "parent_key"],
                name="durable_run_parent",
                condition=Q(parent_chain_id__isnull=False),
            ),
            models.Index(
                fields=["parent_chain_id"],
                name="durable_run_open_child",
                condition=Q(parent_chain_id__isnull=False, open_workflow_id__isnull=False),
            ),
            models.Index(
                fields=["subject_type", "subject_id", "-created_at"],
                name="durable_run_subject",
                condition=Q(subject_type__isnull=False),
            ),
            models.Index(
                fields=["schedule", "-created_at"], name="durable_run_schedule", condition=Q(schedule__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.workflow_id}"


class Dispatch(models.Model):
    """Who may work on an open chain, and when: one narrow row, deleted at the chain's end.

    ``wakeup_at`` null: nothing to do until a message comes. ``epoch`` counts the claims; 0: never claimed.
    """

    chain_id = models.UUIDField(primary_key=True)
    run_id = models.UUIDField()
    queue = models.CharField(max_length=100)
    priority = models.SmallIntegerField(default=0)
    partition_key = models.CharField(max_length=255, default="", db_default="")
    definition = models.CharField(max_length=330, help_text="Name of the definition, with its version if it has one.")
    wakeup_at = MomentField(null=True)
    deadline = MomentField(null=True, help_text="When the run or its chain times out.")
    owner = models.BigIntegerField(null=True)
    epoch = models.IntegerField(default=0)
    hold = models.CharField(max_length=10, null=True)
    closing = models.BooleanField(default=False)
    blocked_by = models.CharField(max_length=64, null=True)
    recoveries = models.SmallIntegerField(default=0)
    started_at = MomentField(null=True)
    claimed_at = MomentField(null=True)
    admitted = models.BooleanField(default=False, db_default=False, help_text="Let in by its queue, until its end.")

    objects = querysets.DispatchQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "dispatch rows"
        indexes = (
            models.Index(
                fields=["queue", "priority", "wakeup_at"],
                name="durable_dispatch_due",
                condition=Q(owner__isnull=True, wakeup_at__isnull=False),
            ),
            models.Index(
                fields=["queue", "priority", "partition_key", "wakeup_at"],
                name="durable_dispatch_keys",
                condition=Q(owner__isnull=True, wakeup_at__isnull=False, admitted=False),
            ),
            models.Index(
                fields=["queue", "priority", "wakeup_at"],
                name="durable_dispatch_going_on",
                condition=Q(owner__isnull=True, wakeup_at__isnull=False, admitted=True),
            ),
            models.Index(fields=["queue", "partition_key"], name="durable_dispatch_in", condition=Q(admitted=True)),
            models.Index(fields=["owner"], name="durable_dispatch_owned", condition=Q(owner__isnull=False)),
            models.Index(
                fields=["definition", "blocked_by"],
                name="durable_dispatch_blocked",
                condition=Q(blocked_by__isnull=False),
            ),
            models.Index(
                fields=["deadline"],
                name="durable_dispatch_late",
                condition=Q(owner__isnull=True, deadline__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.definition} {self.chain_id}"


class Gate(models.Model):
    """What senders lock to keep a chain from ending. Used where every lock excludes a change, see ``WorkerFence``."""

    chain_id = models.UUIDField(primary_key=True)

    def __str__(self) -> str:
        return f"gate of {self.chain_id}"


class HistoryEvent(models.Model):
    """One event of a run. Append-only; the dense primary key refuses a second writer."""

    pk = models.CompositePrimaryKey("run_id", "sequence")
    run_id = models.UUIDField()
    sequence = models.IntegerField()
    type = models.CharField(max_length=40)
    schema = models.SmallIntegerField(default=1)
    time = MomentField()
    data = models.TextField()

    class Meta:
        ordering = ("run_id", "sequence")

    def __str__(self) -> str:
        return f"{self.sequence} {self.type}"


class PrunedRun(models.Model):
    """A run that is gone, and whose events are still to be deleted: a few at a time, the last ones first."""

    run_id = models.UUIDField(primary_key=True)
    events = models.IntegerField(help_text="How many there are left.")
    payloads = models.TextField(null=True, help_text="Of its other rows, those that a codec keeps elsewhere.")

    def __str__(self) -> str:
        return f"{self.run_id}, {self.events} events"


class InboxMessage(models.Model):
    """Something that reached a chain and is not yet an event. Deleted in the commit that holds its event."""

    id = models.BigAutoField(primary_key=True)
    chain_id = models.UUIDField()
    data = models.TextField()
    created_at = MomentField()

    class Meta:
        indexes = (models.Index(fields=["chain_id", "id"], name="durable_inbox_chain"),)

    def __str__(self) -> str:
        return f"message {self.id} for {self.chain_id}"


class ActivityTask(models.Model):
    """An activity that its run's owner does not execute by itself: spilled, remote or waiting for a retry."""

    id = models.BigAutoField(primary_key=True)
    chain_id = models.UUIDField()
    key = models.CharField(max_length=64, help_text="Idempotency key of the activity.")
    run_id = models.UUIDField()
    scheduled = models.IntegerField(help_text="Sequence of its ActivityScheduled event.")
    workflow_id = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    queue = models.CharField(max_length=100)
    priority = models.SmallIntegerField(default=0)
    partition_key = models.CharField(max_length=255, default="", db_default="")
    input = models.TextField()
    options = models.TextField()
    attempt = models.IntegerField(default=0, help_text="Attempts started so far.")
    interruptions = models.SmallIntegerField(default=0)
    due_at = MomentField()
    start_to_close = models.DurationField(null=True, help_text="How long an attempt may take.")
    deadline = MomentField(null=True, help_text="When the running attempt is overdue unless it tells more.")
    attempt_ends_at = MomentField(null=True, help_text="When the start_to_close of the running attempt passes.")
    worker = models.BigIntegerField(null=True)
    failure = models.TextField(null=True, help_text="Of the latest failed attempt.")
    start_before = MomentField(null=True, help_text="schedule_to_start: fails if nobody has begun it by then.")
    expires_at = MomentField(null=True, help_text="schedule_to_close: fails if it has not ended by then.")
    heartbeat = models.DurationField(null=True, help_text="How long an attempt may be silent.")
    heartbeat_details = models.TextField(null=True, help_text="What the latest heartbeat told.")
    cancel_requested = models.BooleanField(default=False, db_default=False)
    external = models.BooleanField(default=False, db_default=False, help_text="Completed by token, by no worker.")
    headers = models.TextField(null=True)
    admitted = models.BooleanField(default=False, db_default=False, help_text="Let in by its queue for this attempt.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["chain_id", "key"], name="durable_task_key"),)
        indexes = (
            models.Index(
                fields=["queue", "priority", "due_at"], name="durable_task_due", condition=Q(worker__isnull=True)
            ),
            models.Index(
                fields=["queue", "priority", "partition_key", "due_at"],
                name="durable_task_keys",
                condition=Q(worker__isnull=True, admitted=False),
            ),
            models.Index(fields=["queue", "partition_key"], name="durable_task_in", condition=Q(admitted=True)),
            models.Index(fields=["worker"], name="durable_task_worker", condition=Q(worker__isnull=False)),
            models.Index(
                fields=["deadline"],
                name="durable_task_deadline",
                condition=Q(worker__isnull=False, deadline__isnull=False),
            ),
            models.Index(fields=["expires_at"], name="durable_task_expires", condition=Q(expires_at__isnull=False)),
            models.Index(
                fields=["start_before"],
                name="durable_task_start",
                condition=Q(worker__isnull=True, start_before__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.key}"


class ActivityOutcome(models.Model):
    """The one outcome of an atomic activity: whoever inserts it first has decided.

    ``result`` null: the workflow was given a timeout, cancellation, interruption or failure instead.
    """

    pk = models.CompositePrimaryKey("chain_id", "key")
    chain_id = models.UUIDField()
    key = models.CharField(max_length=64)
    result = models.TextField(null=True)
    attempt = models.IntegerField(default=1)

    def __str__(self) -> str:
        return self.key


class Update(models.Model):
    """An update of a chain: the place where its caller finds the reply. Pruned after the chain's end."""

    pk = models.CompositePrimaryKey("chain_id", "update_id")
    chain_id = models.UUIDField()
    update_id = models.CharField(max_length=255, help_text="The caller's, or one made for it: it arrives once.")
    run_id = models.UUIDField(null=True, help_text="The run that took it.")
    name = models.CharField(max_length=255)
    state = models.CharField(max_length=10, choices=[(state.value, state.value) for state in State])
    result = models.TextField(null=True)
    failure = models.TextField(null=True)
    created_at = MomentField()
    closed_at = MomentField(null=True)
    expires_at = MomentField(null=True, help_text="Set at the chain's end: until then nobody may forget it.")

    class Meta:
        indexes = (
            models.Index(fields=["expires_at"], name="durable_update_expires", condition=Q(expires_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.name} {self.update_id}"


class RunAttribute(models.Model):
    """A search attribute of a run, in the one column that fits its type; ``value`` is its JSON."""

    pk = models.CompositePrimaryKey("run_id", "key")
    run_id = models.UUIDField()
    key = models.CharField(max_length=100)
    value = models.TextField()
    text = models.CharField(max_length=255, null=True)
    number = models.FloatField(null=True)
    time = MomentField(null=True)

    class Meta:
        indexes = (
            models.Index(fields=["key", "text"], name="durable_attribute_text", condition=Q(text__isnull=False)),
            models.Index(fields=["key", "number"], name="durable_attribute_number", condition=Q(number__isnull=False)),
            models.Index(fields=["key", "time"], name="durable_attribute_time", condition=Q(time__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.key} = {self.value}"


class DebouncedStart(models.Model):
    """The run that waits for starts of its key to be over; a row whose run has begun is no more than a place."""

    key = models.CharField(max_length=511, primary_key=True)
    run_id = models.UUIDField(null=True)
    latest_at = MomentField(null=True, help_text="When it begins whatever comes.")

    class Meta:
        indexes = (models.Index(fields=["run_id"], name="durable_debounced_run"),)

    def __str__(self) -> str:
        return self.key


class PausedWorkflow(models.Model):
    """A workflow, by name, whose runs no worker takes until the row is gone."""

    name = models.CharField(max_length=255, primary_key=True)
    reason = models.TextField(default="", blank=True)
    paused_at = MomentField()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Queue(models.Model):
    """A queue that is paused, limited or fair. One that has no row is none of it."""

    name = models.CharField(max_length=100, primary_key=True)
    paused = models.BooleanField(default=False, db_default=False, help_text="Whether no worker takes from it.")
    reason = models.TextField(default="", blank=True, db_default="", help_text="For people: why it is paused.")
    counts = models.CharField(
        max_length=10,
        default=ACTIVITIES,
        db_default=ACTIVITIES,
        choices=[(one, one) for one in COUNTED],
        help_text="What the limits count: activities while they are executed, or workflows from beginning to end.",
    )
    concurrency = models.PositiveIntegerField(null=True, blank=True, help_text="How many at a time.")
    concurrency_per_worker = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many at a time in one worker process."
    )
    concurrency_per_key = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many at a time of one partition key."
    )
    rate = models.PositiveIntegerField(null=True, blank=True, help_text="How many may begin in the period.")
    rate_period = models.DurationField(null=True, blank=True, help_text="Such as 00:01:00 for a minute.")
    rate_burst = models.PositiveIntegerField(null=True, blank=True, help_text="How many may begin at once.")
    key_rate = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many of one partition key may begin in the period."
    )
    key_rate_period = models.DurationField(null=True, blank=True)
    key_rate_burst = models.PositiveIntegerField(null=True, blank=True)
    fair = models.BooleanField(default=False, db_default=False, help_text="Whether partition keys take turns.")
    weights = models.TextField(
        default="{}", db_default="{}", help_text='Turns of keys that get more than one, as JSON: {"acme": 5}.'
    )

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class QueueTurn(models.Model):
    """What a claim from a governed queue locks: whoever has the row is the only one who lets anything in.

    ``spent_until``: the moment at which all that has begun is paid for by the queue's rate.
    """

    pk = models.CompositePrimaryKey("queue", "kind")
    queue = models.CharField(max_length=100)
    kind = models.CharField(max_length=10)
    latest_key = models.CharField(max_length=255, default="", db_default="", help_text="Whose turn it was last.")
    turns_left = models.IntegerField(default=0, db_default=0, help_text="That it still has.")
    spent_until = MomentField(null=True)

    def __str__(self) -> str:
        return f"{self.kind} of {self.queue}"


class QueueKey(models.Model):
    """What a partition key has spent of the rate that a queue gives to each. No row: nothing lately."""

    pk = models.CompositePrimaryKey("queue", "key")
    queue = models.CharField(max_length=100)
    key = models.CharField(max_length=255)
    spent_until = MomentField()

    def __str__(self) -> str:
        return f"{self.key} in {self.queue}"


class Schedule(models.Model):
    """What starts a workflow again and again. ``next_at`` null: nothing to do until somebody changes it."""

    name = models.CharField(max_length=200, primary_key=True)
    spec = models.TextField(help_text="When, as JSON.")
    definition = models.CharField(max_length=255, help_text="Name of the workflow.")
    input = models.TextField()
    options = models.TextField(default="", help_text="How its runs are started, as JSON.")
    declared = models.BooleanField(default=False, help_text="Whether code declares it, and so keeps it up to date.")
    paused = models.BooleanField(default=False)
    note = models.TextField(default="", blank=True, help_text="For people: why it is paused, for example.")
    tick_at = MomentField(null=True, help_text="The next time of the schedule itself.")
    next_at = MomentField(null=True, help_text="When a worker has to look at it.")
    waiting = models.TextField(default="[]", help_text="Ticks that wait for a run to end, as JSON.")
    runs_left = models.IntegerField(null=True)
    started = models.IntegerField(default=0, help_text="Runs that it has started.")
    skipped = models.IntegerField(default=0, help_text="Ticks that came to nothing.")
    last_tick_at = MomentField(null=True, help_text="The latest tick that started a run.")
    last_run_id = models.UUIDField(null=True)
    error = models.TextField(default="", help_text="Why the latest tick could not start its run.")
    created_at = MomentField()

    class Meta:
        ordering = ("name",)
        indexes = (models.Index(fields=["next_at"], name="durable_schedule_next", condition=Q(next_at__isnull=False)),)

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """One worker process and its lease. ``dead`` is final: a process that finds it set registers anew."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=255, help_text="Host and process id; for people only.")
    queues = models.TextField(help_text="Names of the queues it serves, one a line.")
    definitions = models.TextField(help_text="Names of the workflow definitions it has, one a line.")
    concurrency = models.IntegerField()
    release = models.CharField(max_length=64)
    started_at = MomentField()
    heartbeat_at = MomentField()
    expires_at = MomentField()
    stopping = models.BooleanField(default=False)
    dead = models.BooleanField(default=False)
    stuck_run = models.UUIDField(null=True, help_text="The run whose code made the process give up.")
    stuck_where = models.TextField(default="")

    class Meta:
        indexes = (models.Index(fields=["expires_at"], name="durable_worker_expires", condition=Q(dead=False)),)

    def __str__(self) -> str:
        return f"{self.name} #{self.id}"


class WorkerFence(models.Model):
    """Whether a worker is dead, in a row that its heartbeats leave alone. Used where every lock excludes a change.

    MariaDB has no lock that an update of another column passes by: commits and heartbeats would wait for each other.
    """

    worker = models.BigIntegerField(primary_key=True)
    dead = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"fence of #{self.worker}"
