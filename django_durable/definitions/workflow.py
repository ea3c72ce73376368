"""Workflows: ``async def`` functions of a context and their own arguments."""

from __future__ import annotations

import hashlib
import inspect
import marshal
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Concatenate, Generic, Literal, ParamSpec, TypedDict, TypeVar, Unpack, get_args

from django_durable.definitions import attributes as search
from django_durable.definitions import function as functions
from django_durable.definitions import options as checks
from django_durable.definitions import queue, stored_retry
from django_durable.definitions import retention as retentions
from django_durable.definitions.debounce import Debounce
from django_durable.definitions.retention import Keeps, Retention
from django_durable.definitions.retry import Retry
from django_durable.definitions.subject import Subject, subject_of
from django_durable.exceptions import DefinitionError
from django_durable.payloads.payload import Payload
from django_durable.payloads.signature import POSITIONAL, Arguments, CallSignature, signature_of

P = ParamSpec("P")
R = TypeVar("R")

OnConflict = Literal["fail", "use_existing", "terminate_existing"]
OnError = Literal["fail", "block"]
OnReuse = Literal["allow", "allow_if_failed", "reject"]
ParentClose = Literal["terminate", "cancel", "abandon"]
ChildCancellation = Literal["wait", "try", "abandon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowOptions:
    """How a run is started."""

    workflow_id: str | None = None
    """The caller's id, unique among open runs; 1 to 255 printable characters. None: the run's own id."""
    queue: str = "default"
    """Queue whose workers take it."""
    priority: int = 0
    """-100 to 100, higher first."""
    partition_key: str | None = None
    """Whose work it is, for limits and turns of its queue: a tenant, for example. None: of a child that of its parent,
    else nobody's, which is a key too."""
    on_conflict: OnConflict = "fail"
    """What a start does while a run of that ``workflow_id``, or of that ``singleton_key``, is open."""
    on_reuse: OnReuse = "allow"
    """Whether a start may take a ``workflow_id`` whose runs are closed."""
    start_delay: timedelta | None = None
    """From the start until the run begins; None: at once."""
    start_at: datetime | None = None
    """When the run begins, an aware time; one that has passed: at once."""
    execution_timeout: timedelta | None = None
    """From the start until the whole chain must have ended, a delay and the retries included; None: any time."""
    run_timeout: timedelta | None = None
    """How long each run of the chain may take, from its beginning; None: any time."""
    retry: Retry | None = None
    """How a failed run is followed by another one with the same arguments; None: not at all."""
    parent_close: ParentClose = "terminate"
    """What becomes of a child that is open when its parent has ended."""
    cancellation: ChildCancellation = "wait"
    """What a parent does when it is cancelled while it awaits a child: ask it to end and wait for that, only ask, or
    leave it alone."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Search attributes that the run has from its start."""
    subject: Subject | None = None
    """The row of some model that the run is about."""
    label: str = ""
    """The caller's words for people, in the admin and in the history of a parent."""
    one_per_subject: bool = False
    """Whether a start fails while another run that was started with this option is open for the same subject."""
    singleton_key: str | None = None
    """While a run of this workflow with this key is open, whatever its id, ``on_conflict`` says what a start does."""
    debounce: Debounce | None = None
    """How starts that follow each other are made one run; None: each is one."""

    @property
    def may_collide(self) -> bool:
        """Whether another run may stand in the way of a start."""
        return self.workflow_id is not None or self.one_per_subject or self.singleton_key is not None


class WorkflowChanges(TypedDict, total=False):
    """Options of a workflow, for ``using()``."""

    workflow_id: str | None
    queue: str
    priority: int
    partition_key: str | None
    on_conflict: OnConflict
    on_reuse: OnReuse
    start_delay: timedelta | None
    start_at: datetime | None
    execution_timeout: timedelta | None
    run_timeout: timedelta | None
    retry: Retry | None
    parent_close: ParentClose
    cancellation: ChildCancellation
    attributes: Mapping[str, Any]
    subject: Any
    one_per_subject: bool
    singleton_key: str | None
    debounce: Debounce | None
    label: str


VERSION_LIMIT = 64  # characters

KNOWN = frozenset(option.name for option in fields(WorkflowOptions))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCall:
    """A start that has not happened yet, for ``start_workflows``."""

    definition: WorkflowDefinition[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class WorkflowDefinition(functions.Declared, Generic[P, R]):
    """A declared workflow."""

    def __init__(
        self,
        function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
        *,
        name: str,
        version: str = "",
        default: bool = False,
        on_error: OnError | None = None,
        api: bool = False,
        retention: Retention = None,
        options: WorkflowOptions | None = None,
    ) -> None:
        """Declare ``function`` under ``name``. Raises ``DefinitionError`` for what could not work.

        Workers take only runs whose name and ``version`` they have. ``default``: of several versions, starts by name
        take this one. ``on_error``: whether a fault of its code fails or blocks a run; None: what the setting says.
        ``api``: whether the HTTP API knows it.
        ``retention``: how long its chains are kept after their end.
        """
        functions.check_declarable(function, decorator="durable.workflow")
        checks.check_text(name, what="The name of a workflow")
        checks.check_text(version, what=f"Workflow {name}: version", limit=VERSION_LIMIT, empty=True)
        checks.check_flag(default, name="default", owner=f"Workflow {name}")
        checks.check_flag(api, name="api", owner=f"Workflow {name}")
        if on_error is not None:
            checks.check_choice(on_error, name="on_error", choices=get_args(OnError), owner=f"Workflow {name}")
        _check_shape(function, name)
        self._declared = self
        self._name = name
        self._version = version
        self._is_default = default
        self._on_error = on_error
        self._in_api = api
        self._retention = retentions.read(retention, owner=f"Workflow {name}: retention")
        self._function = function
        self._options = options or WorkflowOptions()
        self._signature = CallSignature(function, name=name, skip=1)
        self._fingerprint = ""
        _check_options(self)
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self.__qualname__ = function.__qualname__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self, ctx: Any, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function itself, which starts nothing durable: ``durable.start_workflow`` does."""
        return self.function(ctx, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.name}{f' {self.version}' if self.version else ''}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return self._version

    @property
    def is_default(self) -> bool:
        """Whether starts by name take this version, whatever is registered after it."""
        return self._is_default

    @property
    def on_error(self) -> OnError | None:
        """Whether a fault of its code fails or blocks a run; None: what ``DURABLE["ON_WORKFLOW_ERROR"]`` says."""
        return self._on_error

    @property
    def in_api(self) -> bool:
        """Whether the HTTP API of ``contrib.api`` knows it."""
        return self._in_api

    @property
    def retention(self) -> Keeps:
        """How long its chains are kept after their end, by status; what is missing is for the settings to say."""
        return self._retention

    @property
    def key(self) -> str:
        """Name and version as one text, under which workers find their runs."""
        return key_of(self.name, self.version)

    @property
    def function(self) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
        return self._function

    @property
    def options(self) -> WorkflowOptions:
        return self._options

    @property
    def signature(self) -> CallSignature:
        """How its inputs and results are stored."""
        return self._signature

    @property
    def place(self) -> functions.Place:
        """Where it is written."""
        return functions.place_of(self.function)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the code: of its module's source, or else of its own bytecode."""
        if not self._fingerprint:
            self._fingerprint = hashlib.sha256(_code_of(self.function)).hexdigest()[:16]
        return self._fingerprint

    def using(self, **options: Unpack[WorkflowChanges]) -> WorkflowDefinition[P, R]:
        """A copy with other options; what is not given stays as it is.

        Raises ``DefinitionError`` for unknown or wrong ones.
        """
        checks.check_names(options, known=KNOWN, owner=f"Workflow {self.name}")
        stored_retry.check_predicate(options.get("retry"), before=self.options.retry, owner=f"Workflow {self.name}")
        changed = self._changeable()
        changed._options = replace(self._options, **_accumulated(self._options, dict(options), f"Workflow {self.name}"))
        _check_options(changed)
        return changed

    def _changed_options(self) -> dict[str, Any]:
        return checks.changes(self._declared.options, self.options)

    def call(self, *args: P.args, **kwargs: P.kwargs) -> WorkflowCall:
        """The start of one run as a value, for ``start_workflows``."""
        return WorkflowCall(definition=self, args=args, kwargs=kwargs)

    def encode_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """Store a start's arguments. Raises ``TypeError`` for a wrong call, ``PayloadError`` for a wrong value."""
        return self.signature.encode_input(args, kwargs)

    def decode_input(self, payload: Payload) -> Arguments:
        """The arguments that follow the context. Raises ``PayloadError``."""
        return self.signature.decode_input(payload)

    def encode_result(self, value: Any) -> Payload:
        """Store what the workflow returned. Raises ``PayloadError``."""
        return self.signature.encode_result(value)

    def decode_result(self, payload: Payload) -> R:
        """What the workflow returned. Raises ``PayloadError``."""
        result: R = self.signature.decode_result(payload)
        return result


def key_of(name: str, version: str) -> str:
    """Name and version as one text. No name can contain the separator."""
    return f"{name}\t{version}" if version else name


def _check_shape(function: Callable[..., Any], name: str) -> None:
    owner = f"Workflow {name} ({functions.place_of(function)})"
    if inspect.isasyncgenfunction(function):
        raise DefinitionError(
            f"{owner} has a yield, so it is a generator. A workflow returns its result once; on its way it may tell "
            f"people with ctx.set_progress(), and programs with ctx.set_attributes() and queries."
        )
    if not inspect.iscoroutinefunction(function):
        raise DefinitionError(f"{owner} must be an async def. Side effects and blocking code belong into activities.")
    first = next(iter(signature_of(function).parameters.values()), None)
    if first is None or first.kind not in POSITIONAL:
        raise DefinitionError(f"{owner} needs the context as its first parameter: async def {function.__name__}(ctx).")
    if first.name.strip("_") not in ("", "ctx", "context") and "Context" not in str(first.annotation):
        raise DefinitionError(
            f"{owner} has {first.name!r} as its first parameter; a workflow's first parameter is its context: "
            f"async def {function.__name__}(ctx: Context, {first.name}, ...)."
        )


def _check_options(definition: WorkflowDefinition[Any, Any]) -> None:
    options, owner = definition.options, f"Workflow {definition.name}"
    if options.workflow_id is not None:
        checks.check_text(options.workflow_id, what=f"{owner}: workflow_id")
    checks.check_text(options.queue, what=f"{owner}: queue", limit=queue.NAME_LIMIT)
    checks.check_priority(options.priority, owner=owner)
    if options.partition_key is not None:
        queue.check_key(options.partition_key, owner=owner)
    checks.check_choice(options.on_conflict, name="on_conflict", choices=get_args(OnConflict), owner=owner)
    checks.check_choice(options.on_reuse, name="on_reuse", choices=get_args(OnReuse), owner=owner)
    checks.check_choice(options.parent_close, name="parent_close", choices=get_args(ParentClose), owner=owner)
    checks.check_choice(options.cancellation, name="cancellation", choices=get_args(ChildCancellation), owner=owner)
    for name in ("execution_timeout", "run_timeout"):
        if (limit := getattr(options, name)) is not None:
            checks.check_duration(limit, name=name, owner=owner)
    if options.retry is not None and not isinstance(options.retry, Retry):
        raise DefinitionError(f"{owner}: retry must be a Retry or None, not {options.retry!r}.")
    checks.check_text(options.label, what=f"{owner}: label", empty=True)
    checks.check_flag(options.one_per_subject, name="one_per_subject", owner=owner)
    if options.one_per_subject and options.subject is None:
        raise DefinitionError(f"{owner}: one_per_subject needs a subject: using(subject=..., one_per_subject=True).")
    if options.singleton_key is not None:
        checks.check_text(options.singleton_key, what=f"{owner}: singleton_key")
    _check_beginning(options, owner)


def _accumulated(options: WorkflowOptions, given: dict[str, Any], owner: str) -> dict[str, Any]:
    """``given`` as fields of ``options``: attributes are added to those that are there, a model's row is a subject."""
    if "attributes" in given:
        values = {**options.attributes, **search.checked(given["attributes"], owner=owner)}
        given["attributes"] = {key: value for key, value in values.items() if value is not None}
        if len(given["attributes"]) > search.COUNT_LIMIT:
            raise DefinitionError(f"{owner}: a run has at most {search.COUNT_LIMIT} attributes.")
    if given.get("subject") is not None:
        given["subject"] = subject_of(given["subject"], owner=owner)
    return given


def _check_beginning(options: WorkflowOptions, owner: str) -> None:
    if options.start_delay is not None:
        checks.check_delay(options.start_delay, name="start_delay", owner=owner)
    if options.start_at is not None:
        checks.check_moment(options.start_at, name="start_at", owner=owner)
    if options.start_delay is not None and options.start_at is not None:
        raise DefinitionError(f"{owner}: start_delay and start_at exclude each other. Set one of them to None.")
    if options.debounce is None:
        return
    if not isinstance(options.debounce, Debounce):
        raise DefinitionError(f"{owner}: debounce must be a Debounce or None, not {options.debounce!r}.")
    if options.start_delay is not None or options.start_at is not None:
        raise DefinitionError(f"{owner}: debounce says when a run begins; leave start_delay and start_at out.")


def _code_of(function: Callable[..., Any]) -> bytes:
    try:
        return inspect.getsource(sys.modules[function.__module__]).encode()
    except (KeyError, OSError, TypeError):
        return marshal.dumps(inspect.unwrap(function).__code__)
