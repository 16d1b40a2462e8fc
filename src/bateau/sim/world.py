"""One simulated run: who runs next, its steps and its end, its hosts and what lies between them.

Theory of operation. Exactly one simulated thread runs at a time (``thread``). When it blocks, it runs the scheduler: while some
thread is ready, one of them goes on; else the clock jumps to the next event in the heap, whose function (never user code)
may make threads ready. If there is neither, nothing can ever happen again: the director, which is the program of the test, is told.

The clock itself, every decision and the record are ``timeline``'s.
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..kernel.twin import twinned
from .errors import NoProgress, Stuck
from .faults import NONE, Faults
from .silence import close_dead, the_dead_are_silent
from .sites import running_at
from .stubborn import leave_behind
from .thread import BLOCKED, ENDED, READY, RUNNING, Carrier, Killed, SimThread, here
from .timeline import Timeline
from .watchdog import worlds

if TYPE_CHECKING:
    from collections.abc import Generator

    from .chaos import Chaos
    from .host import SimHost
    from .net.network import Network, Places
    from .process import Process
    from .strategy.base import Strategy

# The wall clock of every host at the start of a run: 2026-01-01 00:00:00 UTC.
EPOCH = 1767225600.0
# Task steps after which the clock creeps on although something could still run, and how often and how far it does then.
STEPS_BEFORE_CREEP = 10_000
CREEP_EVERY = 1_000
CREEP_SECONDS = 0.001
# The collector is off during a run, whose objects die by their reference counts; what does not is looked for so often.
STEPS_BETWEEN_COLLECTIONS = 50_000
DEFAULT_MAX_STEPS = 1_000_000
# How often a program may ask for the time without any task making a step before it is called a busy loop that will never end.
MOST_IDLE_LOOKS = 300_000
# The option ``stall``: for how long, in seconds, what is ready may be left standing by the strategy: a busy machine does that, and makes timers that are due
# soon overtake it. Longer than this stands a machine that is frozen (``Faults.freeze``): else every timeout of a minute would be
# reached before an answer that has come already.
LONGEST_STALL = 0.1
# So many points where others could run a thread passes in a row; then they do, whatever the strategy says.
MOST_PASSED = 1_000
# So often a thread of a world that has ended is told so; then it is left behind.
MOST_DEATHS = 1_000


@twinned("next_thread", "look")
class World(Timeline):
    """A simulated world: its hosts, its clock, its faults. Made by ``sim.run`` and ``sim.explore``, given to scenarios that ask for it.

    ``seed`` decides all randomness; ``strategy`` answers the choices (None: always 0, what production does); ``options`` are those
    of the parts (``faults``, ``latency``...), kept for the replay token. ``detailed`` records each step for the story.
    """

    def __init__(
        self,
        seed: int = 0,
        strategy: Strategy | None = None,
        *,
        max_steps: int = DEFAULT_MAX_STEPS,
        detailed: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(seed, strategy, detailed)
        self.max_steps = max_steps
        self.options = options or {}
        self.faults: Faults = self.options.get("faults") or NONE
        stall: float | None = self.options.get("stall")
        self.stall: float = LONGEST_STALL if stall is None else stall
        self.hosts: dict[str, SimHost] = {}
        self.ready: deque[SimThread] = deque()
        # The coroutines of killed processes, to be closed when the world has ended.
        self.graveyard: list[Any] = []
        # For systematic faults: called after each task step, and before a thread blocks.
        self.after_step: Callable[[Process, Any], None] | None = None
        self.at_block: Callable[[SimThread, object], None] | None = None
        # For stepping through a detailed run: called where a thread that turns no tasks waits, or lets others go first.
        self.after_wait: Callable[[Process], None] | None = None
        # Called when the scenario has returned: what must hold in the end.
        self.at_end: list[Callable[[], None]] = []
        # Called when the world has ended, in reverse order.
        self.at_close: list[Callable[[], None]] = []
        # Faults that happen to whole hosts by themselves, where there are such.
        self.chaos: Chaos | None = None
        self.closed = False
        # The number of the last kernel task before this world: names made of numbers count from there.
        self.first_task_id = 0
        self._steps_at_look = self._looks_without_step = 0
        self._collect_at = STEPS_BETWEEN_COLLECTIONS
        # The step after which ``_attend`` looks at what needs no look after each.
        self._attend_at = min(max_steps, CREEP_EVERY)
        # How often programs looked at a clock, when the last look was (virtual time), and how many looks were at that same moment.
        self.looks = 0
        self._looked_at = -1.0
        self._looks_at_once = 0
        # How often the running thread has passed others that are ready since it took its baton.
        self._passed = 0
        self._pids = 100
        # The OS thread that has just handed over the baton for the last time: whoever takes it waits until that is gone.
        self.ending: Carrier | None = None
        # How often the baton was taken. And who stood still in a real lock, where the world was ended for that.
        self.switches = 0
        self.stuck: SimThread | None = None
        self.stubborn: list[SimThread] = []
        self._network: Network | None = None

    # -- steps ---------------------------------------------------------------------------------------------------------

    def stepped(self, process: Process, task: Any) -> None:
        """A task of ``process`` has made a step."""
        self.steps += 1
        if self.after_step is not None:
            self.after_step(process, task)
        if self.checks:
            self.check()
        if self.steps >= self._attend_at:
            self._attend()

    def thread_stepped(self) -> None:
        """The running thread has come to a point that counts as a step."""
        self.steps += 1
        if self.checks:
            self.check()
        if self.steps >= self._attend_at:
            self._attend()

    def _attend(self) -> None:
        """What is looked at every so many steps only: whether the clock must creep on, whether there are too many, garbage."""
        self._attend_at = min(self.max_steps, (self.steps // CREEP_EVERY + 1) * CREEP_EVERY)
        if self.steps % CREEP_EVERY == 0 and self.steps - self._steps_at_jump >= STEPS_BEFORE_CREEP:
            self.creep()
        if self.steps >= self.max_steps:
            self.max_steps *= 2  # the explanation below must be able to run
            self._attend_at = self.steps + CREEP_EVERY
            self.end_with(
                NoProgress(
                    f"the run has made {self.steps} steps; raise max_steps if that can be right\n{self.explain()}"
                )
            )
        if self.steps >= self._collect_at:
            self._collect_at += STEPS_BETWEEN_COLLECTIONS
            gc.collect(1)

    def look(self) -> None:
        """A program looks at a clock. Where it does nothing else, the clock goes on and others get their turn."""
        self.looks += 1
        if self.steps != self._steps_at_look:
            self._steps_at_look, self._looks_without_step = self.steps, 0
        self._looks_without_step += 1
        if self._looks_without_step == MOST_IDLE_LOOKS:
            self.end_with(
                NoProgress(
                    f"a loop looks at the clock for ever and does nothing: {MOST_IDLE_LOOKS} times without a step of a task\n{self.explain()}"
                )
            )
        if self.now != self._looked_at:
            self._looked_at = self.now
            self._looks_at_once = 0
        self._looks_at_once += 1
        if self._looks_at_once >= STEPS_BEFORE_CREEP and self._looks_at_once % CREEP_EVERY == 0 and not self.in_event:
            self.creep()
            self._looked_at = self.now
            self.pass_on()

    def creep(self) -> None:
        """Let a little time pass although something can run: a program that waits for the clock without sleeping must see it go on."""
        at = self._steps_at_jump
        self.jump(self.now + CREEP_SECONDS)
        self._steps_at_jump = at

    # -- who runs --------------------------------------------------------------------------------------------------------

    def block(self, what: object, deadline: float | None = None) -> bool:
        """Block the running thread until ``unblock``, at most until ``deadline`` (virtual seconds): whether it was unblocked.

        ``what`` it waits for is for explanations: text, or an object whose ``str`` is asked for when it is needed. Callers look again
        whether it has come: a signal's handler may have run meanwhile, in this thread. What that raises is raised here. Raises ``Killed``
        if the process dies, and in the director ``Stuck`` if nothing can ever happen again.
        """
        thread = self.thread
        if self.at_block is not None:
            self.at_block(thread, what)
        if thread.process.dead or self.over or thread.pending is not None or thread.calls:
            self.before_call(thread)
        if self.detailed and what != "poll":
            self._note_wait(thread, f"waits: {what}")
        if deadline is not None and not self.ready and (self.strategy is None or not self.strategy.follows):
            following = self.next_event()
            if following is None or deadline < following:
                # Nobody can run and nothing comes before: all that would happen is that time passes.
                self.jump(deadline)
                return False
        while True:
            thread.state = BLOCKED
            thread.waits_for = what
            thread.timed_out = False
            if deadline is not None:
                thread._event = self.at(deadline, thread.time_out)
            self._switch(thread)
            timed_out = thread.timed_out
            if not thread.calls or self._called(thread):
                return not timed_out
            if deadline is not None and self.now >= deadline:
                return False

    def _called(self, thread: SimThread) -> bool:
        """Make the calls for which a blocked thread was woken; whether its wait is over as well."""
        over = not thread.aside
        thread.aside = False
        if thread._event is not None:
            thread._event.cancel()
            thread._event = None
        thread.woken = False
        thread.make_calls()
        # Where the calls were many, what it waits for may have come during one of them.
        return over or thread.woken

    def point(self) -> None:
        """Where the running thread synchronises with others of its process, if there are any: a step, and others may run first."""
        thread = self.thread
        if self.in_event or thread.state is not RUNNING:
            return  # the scheduler itself, or a destructor that runs in the middle of it
        if len(thread.process.threads) == 1:
            self.before_call(thread)
            return
        self.thread_stepped()
        self.preempt()

    def preempt(self, stream: str = "threads") -> None:
        """A point where others that are ready may run before the running thread goes on."""
        thread = self.thread
        self.before_call(thread)
        if not self.ready:
            return
        # 0: it goes on, which is what production most likely does.
        value = self.choose_step(stream, (thread, *self.ready), False)
        if not value:
            self._passed += 1
            if self._passed >= MOST_PASSED:  # it may be waiting in a loop for what only another can do
                value = 1
        if value:
            if self.detailed:
                self._note_wait(thread, "lets another thread go first")
            chosen = self.ready[value - 1]
            del self.ready[value - 1]
            self.ready.appendleft(chosen)
            thread.state = READY
            self.ready.insert(1, thread)
            self._switch(thread, chosen=True)

    def pass_on(self) -> None:
        """Let every other thread that is ready run first (``sleep(0)``, a poll that does not wait)."""
        thread = self.thread
        self.before_call(thread)
        self.run_due()
        if self.ready:
            if self.detailed:
                self._note_wait(thread, "lets the others run")
            thread.state = READY
            self.ready.append(thread)
            self._switch(thread)

    def _note_wait(self, thread: SimThread, text: str) -> None:
        """For the story: where in its code a thread stands that another follows."""
        process = thread.process
        if all(engine.thread_id != thread.ident for engine in process.engines):  # else its tasks tell
            self.note("step", text, host=process.host.name, actor=process.actor(thread), site=running_at())
            if self.after_wait is not None:
                self.after_wait(process)

    def before_call(self, thread: SimThread) -> None:
        """Every simulated call that may wait comes by here: the dead do nothing."""
        if thread.process.dead or self.over:
            self._the_dead(thread)
        if thread.pending is not None:
            pending, thread.pending = thread.pending, None
            raise pending
        if thread.calls:
            thread.make_calls()

    def _the_dead(self, thread: SimThread) -> None:
        if self.closed or thread.process is self.director:
            thread.deaths += 1
            if thread.deaths > MOST_DEATHS and self.closed and thread.carrier is not None and self.stuck is None:
                self._leave_behind(thread)
            raise Killed
        # The world still runs: this thread does not, until the end.
        thread.state = BLOCKED
        thread.waits_for = "nothing: it was killed"
        self._switch(thread)

    def _leave_behind(self, thread: SimThread) -> None:
        """It swallows whatever is raised in it: the baton goes to the director, and the OS thread stays where it is for good."""
        assert self.director is not None
        self.stubborn.append(thread)
        thread.state = ENDED
        self.director.main.baton.release()
        while True:
            thread.baton.acquire()

    def _switch(self, thread: SimThread, chosen: bool = False) -> None:
        """Give the baton to whoever is next, and come back when it is this thread's turn again."""
        following = self.ready.popleft() if chosen else self.next_thread()
        if following is not thread:
            # In one go for every other thread: Python switches threads, and runs handlers of signals, at the end of a call at the earliest.
            # So whoever finds itself in ``self.thread`` has been handed its baton.
            self.thread = following
            try:
                following.baton.release()
                thread.baton.acquire()
            except BaseException:
                self._interrupted(thread)
                raise
            self.take_over(thread)
        else:  # what ``take_over`` would do
            thread.state = RUNNING
            self.switches += 1
            self._passed = 0
        if self.closed or thread.process.dead or self.over:
            self._the_dead(thread)
        if thread.pending is not None:
            pending, thread.pending = thread.pending, None
            raise pending

    def _interrupted(self, thread: SimThread) -> None:
        """A real signal's handler has raised in ``thread`` as it gave the baton away or waited for it: the run can't go on.

        Whoever has the baton hands it back at its next simulated call. If that never comes, a second Ctrl-C leaves it behind.
        """
        self.over = True
        try:
            if self.thread is not thread:
                thread.unblock()
                thread.baton.acquire()
        except BaseException:
            if self.thread is not thread:
                self.closed, self.stuck = True, self.thread
                raise
            self._take_over_again(thread)
            raise
        self._take_over_again(thread)

    def _take_over_again(self, thread: SimThread) -> None:
        """It has been handed its baton, and may have taken it before the handler raised."""
        thread.baton.acquire(False)
        self.take_over(thread)

    def take_over(self, thread: SimThread) -> None:
        """``thread`` has taken its baton: it is the one that runs."""
        thread.state = RUNNING
        self.thread = thread
        self.switches += 1
        self._passed = 0
        if self.ending is not None:
            ending, self.ending = self.ending, None
            ending.join()

    def next_thread(self) -> SimThread:
        """The scheduler: who goes on. Lets time pass until somebody can."""
        ready = self.ready
        while True:
            while ready:
                if len(ready) == 1 or self.strategy is None:
                    found = ready.popleft()
                    if self.strategy is not None and self.strategy.follows:
                        self.strategy.only("threads", found)
                else:
                    when = self.next_event()
                    may_wait = when is not None and when <= self.now + self.stall
                    index = self.choose_step("threads", ready, may_wait)
                    if index >= len(ready):
                        assert when is not None
                        self._pass_time(when)
                        continue
                    found = ready[index]
                    del ready[index]
                if found.process.dead and not self.closed and found.process is not self.director:
                    found.state = BLOCKED
                    continue
                return found
            when = self.next_event()
            if when is None or (self._heap[0].background and not self._awaits_anything()):
                self._tell_stuck()
            else:
                self._pass_time(when)

    def _awaits_anything(self) -> bool:
        return any(event.fn is not None and not event.background for event in self._heap)

    def _pass_time(self, when: float) -> None:
        try:
            self.jump(when)
        except Exception as error:  # a bug of the simulator's own, or of a part of it: never swallowed
            self.end_with(error)

    def _tell_stuck(self) -> None:
        assert self.director is not None
        main = self.director.main
        if main.state is ENDED:
            raise RuntimeError("the simulated world goes on although its director has ended")
        main.interrupt(Stuck(f"nothing can ever happen again in the simulated world\n{self.explain()}"))

    def let_time_pass(self, until: float | None) -> None:
        """Chosen by the strategy although something could run: the clock goes on to the next event, at most to ``until``.

        Nothing happens where that is further than ``stall``: what was thought to come sooner is not wanted any more.
        """
        when = self.next_event()
        if when is None or (until is not None and until < when):
            when = until
        if when is not None and when <= self.now + self.stall:
            self.jump(when)

    def explain(self) -> str:
        """Who waits on what, in every process."""
        lines: list[str] = []
        for host in self.hosts.values():
            for process in host.processes:
                if process.is_alive():
                    lines.extend(process.explain())
        return "\n".join(lines)

    # -- the end ---------------------------------------------------------------------------------------------------------

    def next_pid(self) -> int:
        """A process number that no other has."""
        self._pids += 1
        return self._pids

    def close(self) -> None:
        """Unwind what was left, in ghost mode, so that nothing of this world outlives it. Called by the director, last."""
        self.over = self.closed = True
        director = self.director
        assert director is not None
        me = director.main
        self.thread = me
        me.state = RUNNING
        with the_dead_are_silent():
            for host in self.hosts.values():
                for process in host.processes:
                    for thread in tuple(process.threads):
                        if thread is not me and thread.state is not ENDED and self.stuck is None:
                            self._unwind(thread, me)
            self._bury()
        for undo in reversed(self.at_close):
            undo()
        self.at_close.clear()
        self._heap.clear()
        if self.stubborn:
            leave_behind(self.stubborn)

    def _unwind(self, thread: SimThread, me: SimThread) -> None:
        """Let it raise ``Killed`` out of where it is blocked, to its end (which gives the baton back to the director)."""
        self.thread = thread
        me.state = READY
        self.ready.clear()
        self.ready.append(me)
        thread.process.dead = True
        thread.baton.release()
        me.baton.acquire()
        self.take_over(me)

    def _bury(self) -> None:
        """Close the coroutines of the dead: their cleanup runs now, when it can't matter, and nothing it calls has an effect."""
        graves, self.graveyard = self.graveyard, []
        for grave in graves:
            try:
                close_dead(grave)
            except BaseException:  # it was killed: what its cleanup raises is nobody's
                continue

    # -- hosts -----------------------------------------------------------------------------------------------------------

    def host(self, name: str, *addresses: str) -> SimHost:
        """The machine of that name; made when first asked for, with the given IP addresses (else one of 10.0.0.0/8)."""
        found = self.hosts.get(name)
        if found is None:
            from .host import SimHost, require_name

            require_name(self, name, addresses)

            found = self.hosts[name] = SimHost(self, name, addresses)
        elif addresses:
            raise ValueError(f"host {name!r} exists already, with the addresses {', '.join(found.addresses)}")
        return found

    # -- the network -----------------------------------------------------------------------------------------------------

    @property
    def network(self) -> Network:
        """What lies between the hosts: names, links, cuts."""
        if self._network is None:
            from .net.network import Network

            self._network = Network(self)
        return self._network

    def calm(self) -> None:
        """From here on nothing goes wrong by itself any more: frozen programs go on, partitions are healed, faults are off.

        For scenarios that say: now it must come right.
        """
        self.trace("calm", "from here on nothing goes wrong by itself")
        self.faults = NONE
        if self.chaos is not None:
            self.chaos.calm = True
        for host in self.hosts.values():
            host.thaw()
        self.network.calm()

    def link(self, a: str | SimHost, b: str | SimHost, *, one_way: bool = False, **quality: Any) -> None:
        """Say how good the connection between two hosts is, in both directions or only from ``a`` to ``b``.

        ``latency`` (a ``Latency``, or seconds), ``bandwidth`` (bytes per second, None: no limit), and probabilities that hold here
        instead of those of ``Faults``: ``loss``, ``duplicate``, ``reorder`` (of datagrams), ``reset``, ``retransmit``, ``split`` (of segments of a
        stream), ``refuse`` (of connects). What is not named stays as it is. Raises ``ValueError``, ``TypeError``.
        """
        self.network.set(a, b, one_way=one_way, **quality)

    def partition(self, a: Places, b: Places, *, one_way: bool = False) -> None:
        """From now on nothing comes through between ``a`` and ``b`` (hosts, or lists of them), until ``heal``.

        ``one_way``: nothing from ``a`` to ``b``, but all from ``b`` to ``a``. Nobody is told: connections stay, and what is sent is tried
        again by TCP, and lost by UDP.
        """
        self.network.partition(a, b, one_way=one_way)

    def isolate(self, *hosts: str | SimHost) -> None:
        """Cut these hosts off from all the others (not from each other), until ``heal``."""
        self.network.isolate(*hosts)

    def heal(self, a: Places | None = None, b: Places | None = None) -> None:
        """Undo every cut: all of them, those of ``a``, or those between ``a`` and ``b``."""
        self.network.heal(a, b)

    @contextmanager
    def entered(self) -> Generator[None]:
        """The calling thread belongs to this world while the block runs."""
        outer, here.world = here.world, self
        worlds[self] = None
        try:
            yield
        finally:
            here.world = outer
            worlds.pop(self, None)


def current_world() -> World | None:
    """The world that the calling thread belongs to, or None outside any."""
    return here.world
