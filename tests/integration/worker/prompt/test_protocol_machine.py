"""Ledger, claims, lease and settle in any order, on a real server, with a toy Replicate: what must always hold.

Workers take the steps of the real path one by one. Between any two of them another worker may go on, the worker may
die, its lease may run out, and any call of Redis may lose its answer, so that redis-py makes it again much later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from jobs.errors import OverBudget
from jobs.redis_client import keys
from jobs.redis_client.resilience import Redis
from jobs.replicate_api.predictions import CREATE_TIMEOUT
from jobs.state.batches import Batches, Bits, Spent, batch_of
from jobs.state.claims import Claims
from jobs.state.ledger import Claimed, Entry, Ledger, Overtaken, Served, entry_of
from jobs.state.pending import read_pending
from jobs.wire import Batch, Outcome
from worker.leases import Lease, Leases
from worker.prompt.create import MAX_UNKNOWN
from worker.timing import Timing

NAME, API_HOST, ID = "night", "api", "b1"
DIGESTS = (0, 0, 0, 1)
"""Three prompts with one input, and another."""

PRICE = 10
WORKERS = 3
RESULTS: tuple[Outcome, ...] = ("succeeded", "failed", "canceled")

lost = st.booleans()
which = st.integers(0, 1_000)
HAPPENINGS = [*["a minute"] * 4, *["a stall"] * 4, "a renewal", "a crash", "a crash", "a cancel", "a mark"]
STEPS = {
    "idle": "intend",
    "intended": "post",
    "answered": "record",
    "unsent": "withdraw",
    "refused": "close_refused",
    "saved": "commit",
    "committed": "settle",
}
"""What comes next in a phase that has one way on."""

CHOICES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "post": {"fate": st.sampled_from(["answered", "answered", "lost", "nothing", "late", "limited", "refused"])},
    "search": {"hidden": st.booleans()},
    "finish": {"status": st.sampled_from(["succeeded", "failed", "aborted"]), "cost": st.integers(0, PRICE)},
    "conclude": {"again": st.booleans(), "gone": st.booleans(), "lose": lost},
    "commit": {},
    "call_again": {},
    "take_up": {"n": which},
    "end_offer": {"n": which},
    "arrive": {"n": which, "heard": st.booleans()},
    "retry": {"twice": st.booleans()},
    "happens": {"what": st.sampled_from(HAPPENINGS), "worker": st.integers(0, WORKERS - 1)},
}
"""What else is drawn for a step, when not only whether a call loses its answer."""


@dataclass
class Made:
    """A prediction of the toy Replicate; `nonce` is the intent whose POST made it."""

    id: str
    digest: int
    nonce: str
    status: str = "running"
    cost: int = 0


def predictions_of(entry: Entry) -> int:
    """How many creates of a prompt may have been paid."""
    return len(entry.prediction_ids) + entry.unknown_creates + entry.ambiguous


@dataclass
class Record:
    """What a prompt's folder holds."""

    status: Outcome
    kind: str
    cost: int
    entry: Entry
    """What it was made of."""

    @property
    def predictions(self) -> int:
        return predictions_of(self.entry)

    @property
    def spent(self) -> Spent:
        last = self.entry.prediction_ids[-1] if self.entry.prediction_ids else ""
        return Spent(self.predictions, self.cost, self.kind, "m", last)


@dataclass(eq=False)
class Hand:
    """A prompt in a worker's hand: what it believes, and how far it is."""

    worker: int
    prompt: int
    phase: str
    entry: Entry = field(default_factory=Entry)
    answer: str = ""
    candidates: list[str] = field(default_factory=list)
    sure: bool = False
    retry_count: int = 0
    record: Record | None = None
    stuck: asyncio.Task[None] | None = None
    dropped: bool = False
    hangs: int = 0
    """Does nothing before the machine's step of that number."""


class Flaky(Redis):
    """Loses the answer of one script when told to, and makes the call again when told to, as redis-py does."""

    lose = False
    again: asyncio.Event
    blocked: asyncio.Event
    observe: Callable[..., Coroutine[Any, Any, Any]]

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        return self.execute_command("EVALSHA", sha, numkeys, *keys_and_args)  # alone, not with other calls

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] != "EVALSHA":
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py
        answer = await self.observe(super().execute_command, args)
        if self.lose:
            self.lose = False
            self.again.clear()
            self.blocked.set()
            await self.again.wait()
            answer = await self.observe(super().execute_command, args)
        return answer


@dataclass(frozen=True)
class Snapshot:
    """What Redis has of the batch."""

    batch: Batch
    reservations: int
    entries: dict[int, Entry]
    settled: Bits
    unsuccessful: Bits


class Protocol(RuleBasedStateMachine):
    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = 0.0
        self.world: dict[str, Made] = {}
        self.wire: list[tuple[Hand, str]] = []
        self.hands: list[Hand] = []
        self.offers: list[tuple[Hand, str]] = []
        self.holds = [False] * WORKERS
        self.disk: dict[int, Record] = {}
        self.intended: dict[str, float] = {}
        self.spent_intents = self.taken_back = 0
        self.unknown = self.past_unknown = 0
        self.past_cost = self.late_predictions = 0
        self.disowned: set[str] = set()
        self.claims: dict[str, int] = {}
        self.serving: dict[int, set[str]] = {prompt: set() for prompt in range(len(DIGESTS))}
        self.settled: dict[int, Outcome] = {}
        self.late = self.canceled = False
        self.marked: set[int] = set()
        self.steps = self.turn = 0

    def do(self, coroutine: Any) -> Any:
        return self.runner.run(coroutine)

    @initialize(
        max_predictions=st.none() | st.integers(1, 6),
        max_cost=st.none() | st.integers(1, 6).map(lambda n: n * PRICE),
        hangs=st.none() | st.integers(0, 50),
    )
    def begin(self, max_predictions: int | None, max_cost: int | None, hangs: int | None) -> None:
        self.do(self._begin(max_predictions, max_cost))
        if hangs is not None:
            self._stall_before_a_rename(hangs)

    def _stall_before_a_rename(self, hangs: int) -> None:
        """What chance would seldom bring about: a worker that has only to rename stalls, and others overtake it."""
        self.take_up(n=0)
        [hand] = self.hands
        self.intend(hand, lose=False)
        self.post(hand, fate="answered")
        self.record(hand, lose=False)
        self.finish(hand, status="succeeded", cost=1)
        self.conclude(hand, again=False, gone=False, lose=False)
        hand.hangs = hangs
        self.happens(what="a stall", worker=hand.worker)
        self.take_up(n=self.free().index((hand.worker + 1, hand.prompt)))

    async def _begin(self, max_predictions: int | None, max_cost: int | None) -> None:
        self.eye: Redis = Redis.from_url(self.url)
        await self.eye.flushdb()
        self.clients = [Flaky.from_url(self.url) for _ in range(WORKERS)]
        for client in self.clients:
            client.again, client.blocked, client.observe = asyncio.Event(), asyncio.Event(), self._observe
        self.leases = [Leases(client, API_HOST, f"w{n}", 3600) for n, client in enumerate(self.clients)]
        batches = Batches(self.eye)
        await batches.open(Batch(NAME, ID, API_HOST, 1.0, len(DIGESTS), 0, 1.0))
        await batches.set_budget(NAME, max_predictions, max_cost)
        await self.eye.zadd(keys.queue(API_HOST), {f"{NAME}:0:0": 1})

    def teardown(self) -> None:
        async def close() -> None:
            for hand in self.hands:
                await self._drop(hand)
            for client in (*self.clients, self.eye):
                await client.aclose()

        self.do(close())
        self.runner.close()

    # -- what the server did, seen from outside

    async def _look(self) -> Snapshot:
        async with self.eye.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.batch(NAME))
            pipe.hgetall(keys.ledger(NAME))
            pipe.get(keys.settled(NAME))
            pipe.get(keys.unsuccessful(NAME))
            fields, entries, settled, unsuccessful = await pipe.execute()
        return Snapshot(
            batch_of(fields),
            int(fields.get(b"reservations", 0)),
            {int(index): entry_of(text) for index, text in entries.items()},
            Bits(settled or b""),
            Bits(unsuccessful or b""),
        )

    async def _observe(self, execute: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        before = await self._look()
        answer = await execute(*args)
        after = await self._look()
        self._settlings(before, after, args)
        for prompt in range(len(DIGESTS)):
            if (prompt in after.settled) == (prompt in before.settled):
                self._changes(prompt, before.entries.get(prompt, Entry()), after.entries.get(prompt, Entry()), args)
        return answer

    def _settlings(self, before: Snapshot, after: Snapshot, args: tuple[Any, ...]) -> None:
        for prompt in range(len(DIGESTS)):
            if prompt in after.settled and prompt not in before.settled:
                assert prompt not in self.settled, "settled twice in one generation"
                assert prompt not in after.entries, "a settled prompt has no entry"
                self.marked.discard(prompt)
                self.settled[prompt] = next(word for word in RESULTS if word in args)
                self.serving[prompt] = set()
                record = self.disk.get(prompt)
                assert record, "a result is counted that is not on disk"
                assert record.status == self.settled[prompt], "another result is counted than is on disk"
                self._spending(before.entries.get(prompt, Entry()), record)

    def _spending(self, entry: Entry, record: Record) -> None:
        """What a settled prompt has spent is what its record says, if that was made of what the ledger has.

        Else it is late: its worker was overtaken before its rename, by another that ended this attempt and may have
        begun the next, or settled the prompt, which then was retried. Then what says more may be counted.
        """
        self.past_unknown += record.entry.unknown_creates
        self.past_cost += record.cost
        if entry != record.entry:
            self.late = True
            self.late_predictions += max(0, record.predictions - predictions_of(entry))
            self.past_cost += max(0, entry.cost + entry.reserved - record.cost)

    def _changes(self, prompt: int, was: Entry, now: Entry, args: tuple[Any, ...]) -> None:
        if now.nonce and now.nonce != was.nonce:
            self.intended[now.nonce] = self.now
            self.spent_intents += 1
            assert not was.prediction_id, "an attempt began while another was open"
            if was.nonce:
                self.unknown += 1
                assert now.unknown_creates == was.unknown_creates + 1
        elif was.nonce and not now.nonce:
            if "withdraw" in args or "refused" in args:
                self.taken_back += 1
                assert all(made.nonce != was.nonce for made in self.world.values()), "taken back, but paid"
            if "unknown" in args:
                self.unknown += 1
                assert now.unknown_creates == was.unknown_creates + 1
                assert not was.prediction_id, "what is known was counted as unknown"
            if "close" in args:
                self.serving[prompt].discard(was.prediction_id or "")
        if now.prediction_id and now.prediction_id != was.prediction_id:
            assert self.claims.setdefault(now.prediction_id, prompt) == prompt, "it serves another prompt"
            assert now.prediction_id not in self.disowned, "an orphan that is canceled was adopted"
            self.serving[prompt].add(now.prediction_id)

    # -- how a worker steps

    def claims_of(self, hand: Hand) -> Claims:
        return Claims(self.clients[hand.worker], API_HOST)

    def ledger(self, hand: Hand) -> Ledger:
        return Ledger(self.clients[hand.worker], API_HOST, NAME, ID, hand.prompt)

    def moves(self, hand: Hand) -> list[str]:
        """The names of what a worker may do next with the prompt in its hand."""
        if hand.stuck or self.turn < hand.hangs:
            return []
        if hand.phase == "ambiguous":
            over = [*["replace"] * hand.sure, *["abandon"] * (hand.sure and self.is_canceled(hand))]
            return ["search", *["adopt"] * bool(hand.candidates), *over]
        if self.is_canceled(hand) and hand.phase in ("idle", "following"):
            return ["abandon"]
        if hand.phase == "following":
            running = self.world[hand.entry.prediction_id or ""].status == "running"
            return ["finish" if running else "conclude"]
        return [STEPS[hand.phase]]

    def is_canceled(self, hand: Hand) -> bool:
        return self.canceled or hand.prompt in self.marked

    @rule(data=st.data())
    def next(self, data: st.DataObject) -> None:
        """Whatever may come next: some prompt's next step at some worker, or what happens to all.

        One rule, because hypothesis leaves rules out of its runs: few would get far without one of them.
        """
        self.turn += 1
        able: list[tuple[str, tuple[Hand, ...]]] = [(name, (hand,)) for hand in self.hands for name in self.moves(hand)]
        able += [("call_again", (hand,)) for hand in self.hands if hand.stuck]
        happenings = {
            "take_up": bool(self.free()),
            "arrive": bool(self.wire),
            "end_offer": bool(self.offers),
            "retry": any(outcome != "succeeded" for outcome in self.settled.values()),
            "happens": self.steps >= 3,
        }
        able += [(name, ()) for name, possible in happenings.items() if possible]
        if able:
            name, hands = able[data.draw(st.integers(0, len(able) - 1))]
            drawn = {choice: data.draw(strategy) for choice, strategy in CHOICES.get(name, {"lose": lost}).items()}
            note(f"{name} {[(hand.worker, hand.prompt) for hand in hands]} {drawn}")
            getattr(self, name)(*hands, **drawn)

    async def _drop(self, hand: Hand) -> None:
        hand.dropped = True
        if hand in self.hands:
            self.hands.remove(hand)
        if hand.stuck:
            hand.stuck.cancel()
            await asyncio.wait([hand.stuck])

    def step(self, hand: Hand, act: Coroutine[Any, Any, None], *, lose: bool = False) -> None:
        self.steps += 1
        self.do(self._step(hand, act, lose=lose))

    async def _step(self, hand: Hand, act: Coroutine[Any, Any, None], *, lose: bool) -> None:
        client = self.clients[hand.worker]
        free = not any(other.stuck for other in self.hands if other.worker == hand.worker)
        client.lose = lose and free
        client.blocked.clear()
        await self._until_it_stands(hand, asyncio.create_task(self._minding(hand, act)))
        client.lose = False

    async def _until_it_stands(self, hand: Hand, task: asyncio.Task[None]) -> None:
        blocked = asyncio.create_task(self.clients[hand.worker].blocked.wait())
        await asyncio.wait([task, blocked], return_when=asyncio.FIRST_COMPLETED)
        blocked.cancel()
        hand.stuck = None if task.done() else task
        if task.done():
            task.result()

    async def _minding(self, hand: Hand, act: Coroutine[Any, Any, None]) -> None:
        try:
            await act
        except Overtaken:
            hand.stuck = None
            await self._drop(hand)

    def call_again(self, hand: Hand) -> None:
        """redis-py makes a call again whose answer was lost."""
        client, task = self.clients[hand.worker], hand.stuck

        async def go_on() -> None:
            client.blocked.clear()
            client.again.set()
            assert task
            hand.stuck = None
            await self._until_it_stands(hand, task)

        self.do(go_on())

    # -- the path of a prompt

    def free(self) -> list[tuple[int, int]]:
        taken = {(hand.worker, hand.prompt) for hand in self.hands}
        pairs = [(worker, prompt) for worker in range(WORKERS) for prompt in range(len(DIGESTS))]
        return [pair for pair in pairs if pair not in taken and pair[1] not in self.settled]

    def take_up(self, *, n: int) -> None:
        """A worker that has or gets the lease looks at a prompt: bit, folder, ledger."""
        held = self.do(self.eye.exists(keys.lease(f"{NAME}:0")))
        able = [(worker, prompt) for worker, prompt in self.free() if self.holds[worker] or not held]
        if not able:
            return
        worker, prompt = able[n % len(able)]
        if not self.holds[worker]:
            self.ask_lease(worker, "acquire")
        hand = Hand(worker, prompt, "new")
        self.hands.append(hand)

        async def look() -> None:
            found = (await read_pending(self.clients[worker], NAME, [prompt])).get(prompt)
            if found is None:
                return await self._drop(hand)
            hand.retry_count = found.retry_count
            if record := self.disk.get(prompt):
                hand.record, hand.phase = record, "committed"
            else:
                self._continue(hand, found.entry)
            return None

        self.step(hand, look())

    def _continue(self, hand: Hand, entry: Entry) -> None:
        hand.entry, hand.sure, hand.candidates = entry, False, []
        if entry.prediction_id:
            hand.phase = "following"
        else:
            hand.phase = "ambiguous" if entry.nonce else "idle"

    def intend(self, hand: Hand, *, lose: bool) -> None:

        async def act() -> None:
            try:
                hand.entry = await self.ledger(hand).intend(hand.entry, PRICE)
                hand.phase = "intended"
            except OverBudget as over:
                if over.verdict == "spent":
                    await self._fail(hand, "over_budget")

        if hand.entry.unknown_creates > MAX_UNKNOWN:
            self.step(hand, self._fail(hand, "create_unknown"), lose=lose)
        else:
            self.step(hand, act(), lose=lose)

    def post(self, hand: Hand, *, fate: str) -> None:
        if self.now - self.intended[hand.entry.nonce] > CREATE_TIMEOUT or fate == "limited":
            hand.phase = "unsent"
        elif fate == "late":
            self.wire.append((hand, hand.entry.nonce))
            hand.phase = "ambiguous"
        elif fate == "refused":
            hand.phase = "refused"
        else:
            self._reply(hand, hand.entry.nonce, fate)

    def _reply(self, hand: Hand, nonce: str, fate: str) -> None:
        if fate != "nothing":
            made = Made(f"p{len(self.world)}", DIGESTS[hand.prompt], nonce)
            self.world[made.id] = made
            hand.answer = made.id
        hand.phase = "answered" if fate == "answered" else "ambiguous"

    def arrive(self, *, n: int, heard: bool) -> None:
        """A request that was long under way creates its prediction; its worker may be waiting still, or gone."""
        hand, nonce = self.wire.pop(n % len(self.wire))
        waits = heard and not hand.dropped and hand.stuck is None and hand.phase == "ambiguous"
        waits = waits and hand.entry.nonce == nonce
        self._reply(hand if waits else Hand(hand.worker, hand.prompt, ""), nonce, "answered" if waits else "lost")

    def record(self, hand: Hand, *, lose: bool) -> None:

        async def act() -> None:
            try:
                self._continue(hand, await self.ledger(hand).record(hand.entry, hand.answer))
            except Claimed:
                self._continue(hand, hand.entry)
            except Served:
                self.offers.append((hand, hand.answer))
                raise
            except Overtaken:
                await self._disown(hand, hand.answer)
                raise

        self.step(hand, act(), lose=lose)

    async def _disown(self, hand: Hand, prediction_id: str) -> None:
        if await self.claims_of(hand).disown(prediction_id):
            self.disowned.add(prediction_id)
            self.end(prediction_id, "canceled", 1)

    def end_offer(self, *, n: int) -> None:
        """Nobody took the prediction that came beside an adopted one."""
        self.do(self._disown(*self.offers.pop(n % len(self.offers))))

    def withdraw(self, hand: Hand, *, lose: bool) -> None:

        async def act() -> None:
            await self.ledger(hand).withdraw(hand.entry)
            entry = await self.ledger(hand).read()
            if entry.nonce:
                raise Overtaken
            self._continue(hand, entry)

        self.step(hand, act(), lose=lose)

    def close_refused(self, hand: Hand, *, lose: bool) -> None:

        async def act() -> None:
            hand.entry = await self.ledger(hand).close(hand.entry, how="refused")
            await self._fail(hand, "invalid_input")

        self.step(hand, act(), lose=lose)

    def search(self, hand: Hand, *, hidden: bool) -> None:
        """A pass over the list, which may lag."""
        listed = [made.id for made in self.world.values() if made.digest == DIGESTS[hand.prompt]]
        old = self.now - self.intended[hand.entry.nonce] > CREATE_TIMEOUT + Timing().sure_after

        async def act() -> None:
            hand.candidates = await self.claims_of(hand).unclaimed([] if hidden else listed)
            hand.sure = old and not hand.candidates

        self.step(hand, act())

    def adopt(self, hand: Hand, *, lose: bool) -> None:

        async def act() -> None:
            try:
                self._continue(hand, await self.ledger(hand).record(hand.entry, hand.candidates.pop(0)))
            except Claimed:
                return

        self.step(hand, act(), lose=lose)

    def replace(self, hand: Hand, *, lose: bool) -> None:

        async def act() -> None:
            if hand.entry.unknown_creates >= MAX_UNKNOWN:
                return await self._fail(hand, "create_unknown")
            try:
                hand.entry = await self.ledger(hand).intend(hand.entry, PRICE, replace=True)
                hand.phase = "intended"
            except OverBudget:
                self._continue(hand, await self.ledger(hand).close(hand.entry, hand.entry.reserved, "unknown"))
            return None

        self.step(hand, act(), lose=lose)

    def end(self, prediction_id: str, status: str, cost: int) -> None:
        made = self.world[prediction_id]
        if made.status == "running":
            made.status, made.cost = status, 0 if status == "aborted" else cost

    def finish(self, hand: Hand, *, status: str, cost: int) -> None:
        self.end(hand.entry.prediction_id or "", status, cost)

    def conclude(self, hand: Hand, *, again: bool, gone: bool, lose: bool) -> None:
        """Save what succeeded (its output may be gone); else another attempt, or a failure."""
        made = self.world[hand.entry.prediction_id or ""]
        how: Any = {"succeeded": "output_lost", "aborted": "aborted"}.get(made.status, "attempt")

        async def act() -> None:
            if made.status == "succeeded" and not gone:
                return self._save(hand, "succeeded")
            await self.ledger(hand).confirm(hand.entry)
            if not again:
                return await self._fail(hand, how)
            self._continue(hand, await self.ledger(hand).close(hand.entry, made.cost, how))
            return None

        self.step(hand, act(), lose=lose)

    async def _fail(self, hand: Hand, kind: str, outcome: Outcome = "failed") -> None:
        await self.ledger(hand).confirm(hand.entry)
        if hand.entry.ambiguous:
            hand.entry = await self.ledger(hand).close(hand.entry, hand.entry.reserved, "unknown")
        self._save(hand, outcome, kind)

    def _save(self, hand: Hand, outcome: Outcome, kind: str = "") -> None:
        """All but the rename: much may happen before that, as a disk may hang and a worker stall."""
        entry = hand.entry
        made = self.world.get(entry.prediction_id or "")
        open_cost = 0 if not entry.nonce else made.cost if made and made.status != "running" else entry.reserved
        hand.record = Record(outcome, kind, entry.cost + open_cost, entry)
        hand.phase = "saved"

    def commit(self, hand: Hand) -> None:
        """One rename: who comes first wins, the others settle from what is there."""
        assert hand.record
        hand.record = self.disk.setdefault(hand.prompt, hand.record)
        hand.phase = "committed"

    def settle(self, hand: Hand, *, lose: bool) -> None:
        record = hand.record
        assert record

        async def act() -> None:
            batches = Batches(self.clients[hand.worker])
            await batches.settle(NAME, hand.prompt, record.status, ID, record.spent, hand.retry_count)
            await self._drop(hand)

        self.step(hand, act(), lose=lose)

    # -- what happens to workers and batches

    def happens(self, *, what: str, worker: int) -> None:
        """Time goes by, a worker stalls past its lease without knowing it, or looks after it; what a night brings."""
        self.steps = 0
        if what == "a minute":
            self.now += 61
        elif what == "a stall":
            self.do(self.eye.delete(keys.lease(f"{NAME}:0")))
        elif what == "a renewal" and self.holds[worker]:
            self.ask_lease(worker, "renew")
            if not self.holds[worker]:
                self.drop_all(worker)
        elif what == "a crash":
            self.drop_all(worker)
            self.holds[worker] = False
        elif what == "a cancel":
            self.canceled = True
            self.do(Batches(self.eye).request_cancel(NAME))
        elif what == "a mark":
            unsettled = worker not in self.settled
            assert self.do(Batches(self.eye).cancel_prompts(NAME, ID, [worker])) == unsettled
            self.marked |= {worker} if unsettled else set()

    def drop_all(self, worker: int) -> None:
        async def drop() -> None:
            for hand in [hand for hand in self.hands if hand.worker == worker]:
                await self._drop(hand)

        self.do(drop())

    def ask_lease(self, worker: int, op: str) -> None:
        lease = Lease(f"{NAME}:0", f"{NAME}:0:0")
        self.holds[worker] = self.do(self.leases[worker]._call(op, lease)) == "mine"  # noqa: SLF001 - one step of what is repeated
        owner = self.do(self.eye.get(keys.lease(lease.name)))
        assert (owner == f"w{worker}".encode()) == self.holds[worker], "one owner, and it knows"

    def abandon(self, hand: Hand, *, lose: bool) -> None:
        """What a worker does with a prompt of a canceled batch, once nothing is ambiguous."""

        async def act() -> None:
            if hand.entry.prediction_id:
                self.end(hand.entry.prediction_id, "canceled", 1)
                if self.world[hand.entry.prediction_id].status == "succeeded":
                    return self._save(hand, "succeeded")
            return await self._fail(hand, "canceled", "canceled")

        self.step(hand, act(), lose=lose)

    def retry(self, *, twice: bool) -> None:
        """The unsuccessful are tried again: records aside, a new generation, results taken back in one MULTI."""
        retried = {prompt: outcome for prompt, outcome in self.settled.items() if outcome != "succeeded"}

        async def act() -> None:
            batches = Batches(self.eye)
            generation = (await batches.get(NAME)).generation + 1
            for prompt in retried:
                self.disk.pop(prompt, None)
            await batches.reopen(NAME, generation)
            for _ in range(1 + twice):
                async with self.eye.pipeline(transaction=True) as pipe:
                    for prompt, outcome in retried.items():
                        await batches.unsettle(NAME, prompt, outcome, pipe)
                    await pipe.execute()

        self.do(act())
        self.canceled = False
        for prompt in retried:
            del self.settled[prompt]

    # -- what always holds

    @invariant()
    def all_is_well(self) -> None:
        if not hasattr(self, "eye"):
            return
        now: Snapshot = self.do(self._look())
        batch = now.batch
        self._counters(now)
        self._money(now)
        ids = [id_ for entry in now.entries.values() for id_ in entry.prediction_ids]
        ids += [
            id_
            for prompt, record in self.disk.items()
            for id_ in record.entry.prediction_ids
            if prompt not in now.entries
        ]
        assert len(ids) == len(set(ids)), "a prediction serves two prompts"
        for prompt, entry in now.entries.items():
            current = {entry.prediction_id} - {None}
            assert self.serving[prompt] == current, "an open attempt was forgotten"
        assert batch.unknown_creates == self.unknown
        assert self.do(Batches(self.eye).to_cancel(NAME, 0)) == self.marked
        if not self.late:
            assert self.unknown == self.past_unknown + sum(entry.unknown_creates for entry in now.entries.values())

    def _counters(self, now: Snapshot) -> None:
        counted = {word: sum(outcome == word for outcome in self.settled.values()) for word in RESULTS}
        assert {word: getattr(now.batch, word) for word in RESULTS} == counted
        assert [prompt for prompt in range(len(DIGESTS)) if prompt in now.settled] == sorted(self.settled)
        assert all((prompt in now.unsuccessful) == (word != "succeeded") for prompt, word in self.settled.items())
        assert len(now.unsuccessful) == counted["failed"] + counted["canceled"]
        assert now.reservations == sum(bool(entry.nonce) for entry in now.entries.values())

    def _money(self, now: Snapshot) -> None:
        """Creates and costs are never above what is counted; if no result is late, that is exact and within the budget.

        What a late one may add is in `_spending`.
        """
        batch, paid = now.batch, sum(made.cost for made in self.world.values())
        intents = self.spent_intents - self.taken_back
        most_predictions = batch.max_predictions or intents
        assert len(self.world) + len(self.wire) <= intents <= min(batch.predictions, most_predictions)
        assert batch.predictions <= intents + self.late_predictions
        open_cost = sum(entry.cost + entry.reserved for entry in now.entries.values())
        assert paid <= batch.cost <= self.past_cost + open_cost
        assert paid <= (batch.max_cost or paid)
        if not self.late:
            assert batch.cost == self.past_cost + open_cost
            assert batch.cost <= (batch.max_cost or batch.cost)
        unclaimed = [made for made in self.world.values() if made.id not in self.claims]
        assert self.disowned <= {made.id for made in unclaimed}


def test_the_protocol_holds_in_any_order(redis_url: str) -> None:
    machine = type("Machine", (Protocol,), {"url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=60,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
