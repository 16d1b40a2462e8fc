"""Both parts of a tee are used up by one task, one after the other."""

from unittest.mock import patch

import bateau
from bateau.iter import sharing
from support.hazards import until_found


async def one_after_the_other():
    first, second = bateau.iter(range(1000)).tee(2, limit=5)  # <- found
    await first.collect()
    await second.collect()


async def main():
    with patch.object(sharing, "PATIENCE", 0.02):
        async with bateau.scope() as scope:
            scope.spawn(one_after_the_other)
            await until_found("tee_alone")
            scope.cancel()
