"""Law 8 at every kind of wait: whichever operation a task reaches after it dropped its cancellation, the dropping line is named."""

from __future__ import annotations

import sys

import pytest

import bateau
from bateau import channel, io, net, sync, thread, time


async def _quick():
    return 1


# What waits, made before the cancellation, by name.
WAITS = {
    "yield_now": lambda made: bateau.yield_now(),
    "checkpoint": lambda made: bateau.checkpoint(),
    "sleep(0)": lambda made: time.sleep(0),
    "sleep": lambda made: time.sleep(60),
    "sleep_until the past": lambda made: time.sleep_until(0),
    "lock": lambda made: made["lock"].acquire(),
    "event": lambda made: made["event"].wait(),
    "recv": lambda made: made["rx"].recv(),
    "send": lambda made: made["tx"].send(1),
    "task": lambda made: made["task"],
    "select": lambda made: bateau.select(a=made["rx"].recv(), b=time.sleep(60)),
    "join": lambda made: bateau.join(_quick, _quick),
    "socket": lambda made: made["stream"].read(1),
    "readiness": lambda made: made["stream"].ready(io.READ),
    "duplex": lambda made: made["duplex"].read(1),
    "future": lambda made: made["future"],
    "thread": lambda made: thread.run(_sync),
}


def _sync():
    return None


@pytest.mark.law(8)
@pytest.mark.parametrize("parked", [False, True], ids=["running", "parked"])
@pytest.mark.parametrize("name", WAITS)
def test_the_line_that_swallowed_is_named(entry, name, parked):
    async def main():
        with bateau.move_on_after(0.02 if parked else None) as block:
            if not parked:
                block.cancel()
            try:
                await time.sleep_forever()
            except BaseException:  # bateau: ignore[swallowed_cancellation]
                line = sys._getframe().f_lineno - 1
            with pytest.raises(bateau.Cancelled):
                await WAITS[name](made)
        return line

    async def program():
        near, far = io.duplex()
        tx, rx = channel.channel(1)
        other_tx, other_rx = channel.channel(0)
        async with bateau.scope() as scope:
            made.update(lock=sync.Lock(), event=sync.Event(), rx=rx, tx=other_tx, duplex=near)
            made.update(task=scope.spawn(_quick), future=thread.CallbackFuture())
            async with await net.listen_tcp("127.0.0.1", 0) as listener:
                async with await net.connect_tcp("127.0.0.1", listener.port) as made["stream"]:
                    line = await main()
        for closable in (near, far, tx, rx, other_tx, other_rx):
            closable.close()
        return line

    made = {}
    with pytest.warns(bateau.HazardWarning, match="swallowed_cancellation") as caught:
        line = entry.run(program)
    found = [(w.filename, w.lineno) for w in caught if "swallowed_cancellation" in str(w.message)]
    assert found == [(__file__, line)]
