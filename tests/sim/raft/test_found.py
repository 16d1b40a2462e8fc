"""What exploring examples/raft has found in the simulator itself, each as a small scenario."""

from __future__ import annotations

import bateau
from bateau import net, sim


def test_a_dead_peer_that_cant_answer_does_not_stop_the_world() -> None:
    """What arrives at a process that was killed is refused; where the way back is cut, it is sent again, and later."""

    async def server() -> None:
        async with await net.listen_tcp("server", 9000) as listener:
            async with await listener.accept():
                await bateau.time.sleep_forever()

    async def scenario(world: sim.World) -> str:
        process = world.host("server").start(server)
        await bateau.time.sleep(0.1)
        async with await net.connect_tcp("server", 9000) as stream:
            process.kill()
            world.partition("server", "test", one_way=True)
            for _ in range(2):
                await stream.write(b"hello")
                await bateau.time.sleep(5)
            world.heal()
            try:
                return str(await stream.read())
            except OSError as error:
                return type(error).__name__

    assert sim.run(scenario) == "Broken"
