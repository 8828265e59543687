"""Lists what a service does about each message it hears; a plain registry, built at import."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeAlias, TypeVar
from uuid import UUID

from chassis.unit_of_work import UnitOfWork
from contracts.classes import DataClass
from contracts.messages import Kind, Message

C = TypeVar("C")
M = TypeVar("M", bound=Message)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """The message has been dealt with; what None means too."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The message cannot be dealt with yet; try again after a while, a bounded number of times."""

    after: timedelta
    reason: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The message can never be dealt with: write it down, with the reason, and go on."""

    reason: str


Outcome: TypeAlias = Done | Retry | DeadLetter
Function: TypeAlias = Callable[[M, UnitOfWork[C]], Awaitable[Outcome | None]]
Forgetting: TypeAlias = Callable[[UUID, UnitOfWork[C]], Awaitable[Outcome | None]]


class Together(Generic[T, C]):
    """A function that takes all messages of a batch that it is for; it can be given one, too."""

    def __init__(
        self, function: Callable[[Sequence[T], UnitOfWork[C]], Awaitable[Outcome | None]]
    ) -> None:
        self.all = function
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    async def __call__(self, one: T, uow: UnitOfWork[C]) -> Outcome | None:
        """Deal with one message."""
        return await self.all([one], uow)


def together(
    function: Callable[[Sequence[T], UnitOfWork[C]], Awaitable[Outcome | None]],
) -> Together[T, C]:
    """Let a handler take all messages of a batch at once, where one by one costs too much.

    Messages of one key come in their order, possibly several. When a batch fails each is given to
    the function alone, so an outcome other than done always blames a single message. What is said
    of a tenant counts as said because of the last message about that tenant.
    """
    return Together(function)


@dataclass(frozen=True, slots=True)
class Handler(Generic[C]):
    """One function and the model whose messages it takes."""

    name: str
    model: type[Message]
    kind: Kind
    function: Callable[[Any, UnitOfWork[C]], Awaitable[Outcome | None]]
    # A tenant that is erased in this class is past: the message is dropped and counted.
    writes: DataClass | None
    # Why it must not be run again for what it has dealt with: it reaches outside, as mail does.
    once: str = ""
    # Later commands of its purge do not wait where this one was given up.
    nothing_waits: bool = False

    @property
    def together(
        self,
    ) -> Callable[[Sequence[Any], UnitOfWork[C]], Awaitable[Outcome | None]] | None:
        """The same function for many messages, where it takes many."""
        return self.function.all if isinstance(self.function, Together) else None


@dataclass(slots=True)
class Handlers(Generic[C]):
    """What one service does about messages: at most one function for each model."""

    service: str
    by_model: dict[type[Message], Handler[C]] = field(default_factory=dict)
    forgetting: dict[type[Message], Handler[C]] = field(default_factory=dict)

    def follows(
        self, model: type[M], *, writes: DataClass | None = None, once: str = ""
    ) -> Callable[[Function[M, C]], Function[M, C]]:
        """Take every newer state of a key; a version that was passed never arrives."""
        return self._register(model, Kind.STATE, writes, once)

    def obeys(
        self, model: type[M], *, once: str = "", nothing_waits: bool = False
    ) -> Callable[[Function[M, C]], Function[M, C]]:
        """Take commands addressed to this service; the same one may come again.

        Where one is given up, later ones of its purge wait behind it, unless ``nothing_waits``.
        """
        return self._register(model, Kind.COMMAND, None, once, nothing_waits=nothing_waits)

    def hears(
        self, model: type[M], *, writes: DataClass | None = None, once: str = ""
    ) -> Callable[[Function[M, C]], Function[M, C]]:
        """Take each event once; the inbox drops repeats, which ``once`` says not to force."""
        return self._register(model, Kind.EVENT, writes, once)

    def reads(self, model: type[M]) -> Callable[[Function[M, C]], Function[M, C]]:
        """Take entries of a log, in the log's order; the function knows repeats by their number."""
        return self._register(model, Kind.LOG, None, "")

    def forgets(self, model: type[Message]) -> Callable[[Forgetting[C]], Forgetting[C]]:
        """Take the tombstone of a state's key."""

        def register(function: Forgetting[C]) -> Forgetting[C]:
            self.forgetting[model] = Handler(function.__name__, model, Kind.STATE, function, None)
            return function

        return register

    def _register(
        self,
        model: type[M],
        kind: Kind,
        writes: DataClass | None,
        once: str,
        *,
        nothing_waits: bool = False,
    ) -> Callable[[Function[M, C]], Function[M, C]]:
        def register(function: Function[M, C]) -> Function[M, C]:
            if model in self.by_model:
                raise ValueError(
                    f"{self.service} already has {self.by_model[model].name} for "
                    f"{model.__name__}: a message has one handler"
                )
            self.by_model[model] = Handler(
                function.__name__, model, kind, function, writes, once, nothing_waits
            )
            return function

        return register
