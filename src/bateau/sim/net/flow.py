"""One direction of a TCP connection: what one end sends, until the other end has it.

Theory of operation. A flow takes bytes from its source as long as the send buffer has room, and sends them on as far as the
receiver's window allows. On a link, segments arrive in order, each after the link's delay; nothing is ever lost for good while
both ends live, but a path that is cut is tried again after 0.2, 0.4, 0.8... seconds, as TCP does, and given up after a time.

What the other end says in return (what has arrived, how much more it takes) is no event of its own: it is noted with the time
when it will be heard, and an event is made only where somebody waits for it. So are retransmission and keepalive: the flow knows
whether the path works, and sets a timer only where it does not.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..timeline import Event
    from .links import Link
    from .tcp import TcpSocket

# What travels besides bytes.
HELLO, FIN, RST = "hello", "fin", "rst"
Payload = Any  # bytes, or one of these

SEGMENT = 65_536  # the most bytes that travel as one
FIRST_RETRY, LONGEST_RETRY = 0.2, 120.0
# Seconds after which a connection whose peer does not answer is given up: Linux with its default of 15 retransmissions.
GIVE_UP = 924.6
# Seconds after which the accepting end gives up a handshake whose last part does not come (five repeated SYN-ACKs).
HANDSHAKE = 63.0


class Flow:
    """The base, and what runs inside one host: everything is there at once.

    Invariants: ``used`` counts the bytes that were taken from the source and that it does not know to have arrived; ``queue`` are those
    of them (and a FIN) that wait for the receiver's window. ``dead`` once nothing will travel any more.
    """

    def __init__(self, src: TcpSocket, dst: TcpSocket, forward: Link, back: Link) -> None:
        self.world = src.world
        self.src = src
        self.dst = dst
        self.forward = forward
        self.back = back
        self.queue: deque[Payload] = deque()
        self.used: int = 0
        self.dead = False

    # -- the source's side -----------------------------------------------------------------------------------------------

    def accept(self, data: bytes | memoryview) -> int:
        """Take as much of ``data`` as there is room for; 0 if there is none."""
        count = min(len(data), self.src.send_buffer - self.used)
        if count <= 0:
            return 0
        payload = data if data.__class__ is bytes and count == len(data) else bytes(data[:count])
        self.used += count
        if not self.queue and count <= SEGMENT and count <= self.window():
            self.transmit(payload)  # what ``pump`` would do
        else:
            self.queue.append(payload)
            self.pump()
        return count

    def writable(self) -> bool:
        """Whether there is room worth waking a writer for: a third of the buffer, as Linux has it."""
        return 3 * self.used <= 2 * self.src.send_buffer

    def finish(self) -> None:
        """After what was taken comes the end."""
        self.queue.append(FIN)
        self.pump()

    def hello(self) -> None:
        """The last part of the handshake."""
        self.transmit(HELLO)

    def reset(self) -> None:
        """Tell the other end that there is nobody here any more; what was not sent is gone."""
        if not self.dead:
            self.queue.clear()
            self.transmit(RST)
            self.dead = True

    def lose(self) -> None:
        """The source's host has lost its memory of it."""
        self.queue.clear()
        self.dead = True

    def path_changed(self) -> None:
        """The path may not work any more."""

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return self.used == 0 and not self.queue

    # -- on its way ------------------------------------------------------------------------------------------------------

    def window(self) -> int:
        """How many bytes may be sent now."""
        return self.dst.receive_buffer - len(self.dst.received)

    def pump(self) -> None:
        """Send what the window allows."""
        queue = self.queue
        while queue and not self.dead:
            payload = queue[0]
            if payload is FIN:
                queue.popleft()
                self.transmit(FIN)
                continue
            room = self.window()
            if room <= 0:
                return
            if len(payload) > (most := min(room, SEGMENT)):
                queue[0] = payload[most:]
                payload = payload[:most]
            else:
                queue.popleft()
            self.transmit(payload)

    def transmit(self, payload: Payload) -> None:
        """Send one segment."""
        if payload is HELLO:
            self.dst.hello_arrived()
        elif payload is FIN:
            self.src.fin_acknowledged()
            self.dst.fin_arrived()
        elif payload is RST:
            self.dst.reset_arrived()
        else:
            self.used -= len(payload)
            if self.dst.deaf:
                self.refused()
            else:
                self.dst.data_arrived(payload)

    def refused(self) -> None:
        """There is nobody at the other end any more, and its host says so."""
        self.dead = True
        self.queue.clear()
        self.dst.discard()
        self.src.reset_arrived()

    # -- the receiver's side ---------------------------------------------------------------------------------------------

    def taken(self, count: int) -> None:
        """The program at the other end has read ``count`` bytes: there is room for as many more."""
        if self.queue:
            was = self.writable()
            self.pump()
            if not was and self.writable():
                self.src.changed()


class RemoteFlow(Flow):
    """A flow from one host to another.

    Invariants: ``room`` is the window as the source knows it. ``flight`` are (arrival, delay, payload) in the order of arrival, and ``event``
    is the arrival of the first, if the path works as far as is known. ``notes`` are (when, arrived, read): bytes that the source will
    hear of then; ``news`` is the event of the first, where somebody waits for it. While ``broken`` is not None (since then nothing
    comes through), ``timer`` tries again, and ``unheard`` is what the other end has said in vain.
    """

    def __init__(self, src: TcpSocket, dst: TcpSocket, forward: Link, back: Link, last: float) -> None:
        super().__init__(src, dst, forward, back)
        self.room = dst.receive_buffer
        self.flight: deque[tuple[float, float, Payload]] = deque()
        # Nothing arrives before what was sent before it.
        self.last = last
        self.event: Event | None = None
        self.notes: deque[tuple[float, int, int]] = deque()
        self.news: Event | None = None
        self.broken: float | None = None
        self.retry_after = FIRST_RETRY
        self.timer: Event | None = None
        self.unheard = [0, 0]
        self.probes = 0
        self.delay = 0.0

    # -- the source's side -----------------------------------------------------------------------------------------------

    def accept(self, data: bytes | memoryview) -> int:
        notes = self.notes
        if notes:
            if notes[0][0] <= self.world.now:
                self._hear_due()
            if self.queue:
                self.pump()
        # As in the base, and ``transmit``, for a segment that goes out at once and meets no trouble.
        size, link = len(data), self.forward
        if (
            data.__class__ is bytes
            and 0 < size <= SEGMENT
            and size <= self.room
            and size <= self.src.send_buffer - self.used
            and not self.queue
            and not link.is_troubled()
        ):
            self.used += size
            self.room -= size
            self._launch(data, link.delay(size + 40))
            count = size
        else:
            count = super().accept(data)
        if notes and self._wants_news():
            self._listen()
        return count

    def writable(self) -> bool:
        room = 2 * self.src.send_buffer
        if 3 * self.used <= room:
            return True  # what was not heard yet can only make more room
        if self.notes:
            self._hear_due()
        return 3 * self.used <= room

    def reset(self) -> None:
        broken = self.broken is not None
        super().reset()
        if broken:
            self._break_off()

    def lose(self) -> None:
        super().lose()
        self._stop_timers()
        # What is in the air arrives; it is only never sent again.

    def path_changed(self) -> None:
        if self.dead or self.broken is not None or (self.forward.works and not self.back.cut and not self.dst.lost):
            return
        if self.flight:
            return  # it finds out by itself
        if self.queue or any(self.unheard):
            self._break_off()
        elif self.src.keeps_alive() and self.timer is None:
            idle, _, _ = self.src.keepalive()
            self.probes = 0
            self.timer = self.world.after(idle, self._probe)

    @property
    def idle(self) -> bool:
        return not self.flight and not self.queue

    # -- on its way ------------------------------------------------------------------------------------------------------

    def window(self) -> int:
        return self.room

    def transmit(self, payload: Payload) -> None:
        link = self.forward
        size = 40
        extra = 0.0
        if payload.__class__ is bytes:
            size += len(payload)
            self.room -= len(payload)
            if link.is_troubled():
                if link.probability("reset") > 0 and link.happens("reset", f"{self.src.label()} is reset"):
                    self.src.reset_both()
                    return
                if self._comes_late():
                    extra = link.random.uniform(0.2, 1.0)
                if len(payload) > 1 and link.probability("split") > 0:
                    payload = self._split(payload)
        self._launch(payload, link.delay(size) + extra)

    def _comes_late(self) -> bool:
        link = self.forward
        if link.probability("retransmit") > 0 and link.happens(
            "retransmit", f"a segment of {self.src.label()} comes late"
        ):
            return True
        return bool(link.quality.loss) and link.happens(
            "loss", f"a segment of {self.src.label()} is lost and sent again"
        )

    def _split(self, payload: bytes) -> bytes:
        """Perhaps send the first part of a segment ahead; returns what is left."""
        link = self.forward
        if not link.happens("split", f"a segment of {self.src.label()} comes in two parts"):
            return payload
        at = link.random.randrange(1, len(payload))
        self._launch(payload[:at], link.delay())
        return payload[at:]

    def _launch(self, payload: Payload, delay: float) -> None:
        world, flight = self.world, self.flight
        self.delay = delay
        when = world.now + delay
        if when < self.last:
            when = self.last
        self.last = when
        flight.append((when, delay, payload))
        if self.event is None and self.broken is None:
            self.event = world.at(flight[0][0], self._arrive)

    def _expect(self) -> None:
        """The first of ``flight`` will arrive, if the path works."""
        if self.flight and self.event is None and self.broken is None:
            self.event = self.world.at(self.flight[0][0], self._arrive)

    def _arrive(self) -> None:
        """The first of ``flight`` is due."""
        self.event = None
        flight, now, dst = self.flight, self.world.now, self.dst
        if not self.forward.works:
            self._break_off()
            return
        while flight and flight[0][0] <= now:
            _, delay, payload = flight.popleft()
            if payload.__class__ is bytes and not (dst.lost or dst.deaf):  # as in ``_deliver``
                self._say(delay, len(payload), 0)
                dst.data_arrived(payload)
            elif not self._deliver(payload, delay):
                break
        if flight:
            self._expect()

    def _deliver(self, payload: Payload, delay: float) -> bool:
        """Hand over what has arrived. False: nobody is there, which can't be said either; it stays in flight, to be sent again."""
        dst = self.dst
        if payload is RST:
            dst.reset_arrived()
        elif dst.lost or (dst.deaf and payload.__class__ is bytes):
            if not self.back.cut:
                self.world.after(delay, self.refused)
            elif not self.dead:
                self.flight.appendleft((self.world.now, delay, payload))
                self._break_off()
                return False
        elif payload is HELLO:
            dst.hello_arrived()
        elif payload is FIN:
            self.src.fin_acknowledged()
            dst.fin_arrived()
        else:
            self._say(delay, len(payload), 0)
            dst.data_arrived(payload)
        return True

    def refused(self) -> None:
        if not self.dead:
            self._stop_timers()
            self.flight.clear()
            super().refused()

    # -- what comes back -------------------------------------------------------------------------------------------------

    def taken(self, count: int) -> None:
        if not self.dead:
            self._say(self.delay, 0, count)

    def _say(self, delay: float, arrived: int, read: int) -> None:
        """The other end says something to the source."""
        if self.back.cut:
            self.unheard[0] += arrived
            self.unheard[1] += read
            if arrived or self._wants_news():
                self._break_off()
            return
        notes = self.notes
        when = self.world.now + delay
        if notes:
            last = notes[-1][0]
            if last > when:
                when = last
            if len(notes) > 32:  # nobody waits for them: the last ones may as well be heard together
                _, more_arrived, more_read = notes.pop()
                arrived += more_arrived
                read += more_read
        notes.append((when, arrived, read))
        if self.news is None and self._wants_news():
            self._listen()

    def _wants_news(self) -> bool:
        if self.queue:
            return True
        # The first is what ``writable`` asks first: mostly that settles it.
        return 3 * self.used > 2 * self.src.send_buffer and not self.writable()

    def _listen(self) -> None:
        if self.news is None and not self.dead:
            self.news = self.world.at(self.notes[0][0], self._hear)

    def _hear(self) -> None:
        self.news = None
        self._hear_due()
        self.pump()
        if self.writable():
            self.src.changed()
        if self.notes and self._wants_news():
            self._listen()

    def _hear_due(self) -> None:
        notes, now = self.notes, self.world.now
        while notes and notes[0][0] <= now:
            _, arrived, read = notes.popleft()
            self.used -= arrived
            self.room += read

    # -- a path that does not work ---------------------------------------------------------------------------------------

    def _break_off(self) -> None:
        """Nothing comes through: try again later."""
        if self.dead:  # a reset is not repeated, and a host that has lost its memory repeats nothing
            self.flight.clear()
            self._stop_timers()
            return
        if self.dst.lost and self._only_hello():  # who could ask for it again is gone
            self.flight.clear()
            self.path_changed()
            return
        if self.broken is None:
            self.broken = self.world.now
            self.retry_after = FIRST_RETRY
            if self.timer is not None:
                self.timer.cancel()
            self.timer = self.world.after(self.retry_after, self._retry)
            if self.event is not None:
                self.event.cancel()
                self.event = None

    def _retry(self) -> None:
        self.timer = None
        world, now = self.world, self.world.now
        if self.src.lost or self.broken is None:
            return
        if self.forward.works and not self.back.cut:
            self.broken = None
            if self.dst.lost:
                world.after(2 * self.forward.delay(), self.refused)
                return
            self._resume(now)
            return
        if self._only_hello():
            if now - self.broken >= HANDSHAKE:  # the other end gives up, and this one does not hear of it
                self.flight.clear()
                self.broken = None
                self.dst.abandon()
                return
        elif now - self.broken >= self.src.give_up_after():
            self.dead = True
            self.flight.clear()
            self._stop_timers()
            self.src.failed(errno.ETIMEDOUT)
            return
        if self.forward.works and self.flight:  # it gets through; only the answer does not come back
            since, self.broken = self.broken, None
            self._resume(now)
            self.broken = since
        self.retry_after = min(
            2 * self.retry_after, LONGEST_RETRY, max(0.001, self.broken + self.src.give_up_after() - now)
        )
        self.timer = world.after(self.retry_after, self._retry)

    def _only_hello(self) -> bool:
        waiting = self.queue or any(self.unheard) or not self.flight
        return not waiting and all(payload is HELLO for _, _, payload in self.flight)

    def _resume(self, now: float) -> None:
        """Everything that had not arrived is sent again."""
        again = [payload for _, _, payload in self.flight]
        self.flight.clear()
        self.last = now
        for payload in again:
            self._launch(payload, self.forward.delay(len(payload) + 40))
        if any(self.unheard) and not self.back.cut:
            (arrived, read), self.unheard = self.unheard, [0, 0]
            self._say(2 * self.forward.delay(), arrived, read)

    def _probe(self) -> None:
        """Keepalive: does the other end still answer?"""
        self.timer = None
        if self.dead or self.src.lost or not self.src.keeps_alive():
            return
        _, interval, count = self.src.keepalive()
        if self.forward.works and not self.back.cut:
            if self.dst.lost:
                self.world.after(2 * self.forward.delay(), self.refused)
            return
        if self.probes >= count:
            self.dead = True
            self.src.failed(errno.ETIMEDOUT)
            return
        self.probes += 1
        self.timer = self.world.after(interval, self._probe)

    def _stop_timers(self) -> None:
        for event in (self.timer, self.news):
            if event is not None:
                event.cancel()
        self.timer = self.news = None
        self.broken = None
