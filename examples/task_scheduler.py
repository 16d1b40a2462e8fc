"""A task scheduler with an HTTP front, written from bateau alone (and h11 to parse).

    bateau run examples/task_scheduler.py [PORT] [WORKERS]

    POST /jobs     {"seconds": 0.5, "priority": 1, "timeout": 2}   -> 202 {"id": 1}; 503 when the queue is full
    GET  /jobs/1                                                   -> {"id": 1, "state": "done", ...}
    GET  /                                                         -> counts per state

Jobs wait in a bounded queue, highest priority first; a fixed number of workers run them, each under its own deadline. A
reporter prints a line when something ended or a second has passed, whichever comes first. SIGTERM or Ctrl-C stops it
gracefully: no new connection, no new job, the running ones get a grace of five seconds; the last report says what was left.
"""

from __future__ import annotations

import heapq
import json
import signal as signals
import sys
from contextlib import suppress
from typing import Any

import h11

import bateau
from bateau import net, signal, sync
from bateau.channel import Receiver, Sender, channel

QUEUE_LIMIT = 1000
GRACE = 5.0


class Job:
    """One unit of work and what became of it."""

    def __init__(self, number: int, seconds: float, priority: int, timeout: float) -> None:
        self.number = number
        self.seconds = seconds
        self.priority = priority
        self.timeout = timeout
        self.state = "queued"

    def __lt__(self, other: Job) -> bool:
        return (-self.priority, self.number) < (-other.priority, other.number)

    def as_json(self) -> dict[str, Any]:
        return {"id": self.number, "state": self.state, "priority": self.priority}


class Scheduler:
    """The queue and its workers. ``ready`` holds one permit per queued job, so a worker sleeps while there is none."""

    def __init__(self, ended: Sender[Job]) -> None:
        self.jobs: dict[int, Job] = {}
        self.queue: list[Job] = []
        self.ready = sync.Semaphore(0)
        self.ended = ended

    def submit(self, seconds: float, priority: int, timeout: float) -> Job | None:
        """Queue a job; None if the queue is full or we are stopping."""
        if len(self.queue) >= QUEUE_LIMIT or bateau.stopping():
            return None
        job = self.jobs[len(self.jobs) + 1] = Job(len(self.jobs) + 1, seconds, priority, timeout)
        heapq.heappush(self.queue, job)
        self.ready.release()
        return job

    async def worker(self) -> None:
        """Run jobs until asked to stop."""
        while True:
            await self.ready.acquire()
            if bateau.stopping():
                return
            job = heapq.heappop(self.queue)
            job.state = "running"
            try:
                async with bateau.timeout(job.timeout):
                    await bateau.time.sleep(job.seconds)  # the work
                job.state = "done"
            except TimeoutError:
                job.state = "timed out"
            finally:
                if job.state == "running":
                    job.state = "interrupted"
            await self.ended.send(job)

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        found: dict[str, int] = {}
        for job in self.jobs.values():
            found[job.state] = found.get(job.state, 0) + 1
        return found


async def reporter(scheduler: Scheduler, ended: Receiver[Job]) -> None:
    """A line whenever a job has ended, and one after a quiet second, until no job can end any more."""
    async with bateau.select(job=ended.recv, quiet=lambda: bateau.time.sleep(1.0), on_end="raise") as events:
        with suppress(bateau.EndOfStream):  # the sending end was closed, and everything sent has been received
            async for event in events:
                note = f"job {event.value.number} {event.value.state}" if event.name == "job" else "quiet"
                print(f"{note}; {scheduler.counts()}", flush=True)


async def answer(scheduler: Scheduler, stream: net.SocketStream) -> None:
    """One connection: requests and answers until it ends."""
    state = h11.Connection(h11.SERVER)
    while state.our_state is h11.IDLE:
        body, request = b"", None
        while not isinstance(event := state.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                state.receive_data(await stream.read())
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                return
        assert request is not None
        status, reply = route(scheduler, request.method, request.target.decode(), body)
        data = json.dumps(reply).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
        head = state.send(h11.Response(status_code=status, headers=headers)) or b""
        await stream.write(head + (state.send(h11.Data(data=data)) or b"") + (state.send(h11.EndOfMessage()) or b""))
        if state.our_state is h11.DONE and state.their_state is h11.DONE:
            state.start_next_cycle()


def route(scheduler: Scheduler, method: bytes, target: str, body: bytes) -> tuple[int, Any]:
    """What to answer. Sync: nothing here waits."""
    if method == b"POST" and target == "/jobs":
        try:
            order = json.loads(body)
            seconds, timeout = float(order["seconds"]), float(order.get("timeout", 60))
            priority = int(order.get("priority", 0))
            if seconds < 0 or timeout < 0:
                raise ValueError("times must not be negative")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return 400, {"error": f"send {{'seconds': ..., 'priority': ..., 'timeout': ...}}: {error!r}"}
        job = scheduler.submit(seconds, priority, timeout)
        return (202, {"id": job.number}) if job is not None else (503, {"error": "full or stopping; try again later"})
    if method == b"GET" and target.startswith("/jobs/"):
        job = scheduler.jobs.get(int(target[6:])) if target[6:].isdigit() else None
        return (200, job.as_json()) if job is not None else (404, {"error": "no such job"})
    if method == b"GET" and target == "/":
        return 200, scheduler.counts()
    return 404, {"error": "GET /, POST /jobs or GET /jobs/N"}


async def stop_on_sigterm(scope: bateau.Scope) -> None:
    """SIGTERM asks everything to stop, as the first Ctrl-C does."""
    with signal.open(signals.SIGTERM) as received:
        async for _ in received:
            scope.stop(grace=GRACE, reason="SIGTERM")


@bateau.main
async def main(port: int = 8080, workers: int = 4) -> None:
    ended_tx, ended_rx = channel[Job](100)
    scheduler = Scheduler(ended_tx)
    async with bateau.scope(name="scheduler") as scope:
        scope.spawn(stop_on_sigterm, scope, background=True)
        scope.spawn(reporter, scheduler, ended_rx)
        # First the workers end, then the channel is closed, then the reporter has told everything and ends.
        async with ended_tx, bateau.scope(name="workers") as pool:
            for n in range(workers):
                pool.spawn(scheduler.worker, name=f"worker {n}")
            async with await net.listen_tcp("127.0.0.1", port) as listener:
                print(f"listening on 127.0.0.1:{listener.port}", flush=True)

                async def handle(stream: net.SocketStream) -> None:
                    await answer(scheduler, stream)

                await net.serve(handle, listener)  # ends when asked to stop
            scheduler.ready.release(workers)  # wakes the idle workers, which see that it is time to stop
    print(f"stopped; {scheduler.counts()}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
