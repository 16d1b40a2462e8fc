"""What is to be called when the server is asked to stop fails."""

import bateau


def on_stop(reason):
    raise KeyError("session")


async def main():
    async with bateau.scope() as scope:
        scope.token.on_stop(on_stop)
        scope.stop(grace=0)  # <- found
