"""A connection is made in the moment in which nobody wants it any more."""

import bateau


async def connects():
    try:
        await bateau.time.sleep_forever()
    except bateau.Cancelled:
        return "connection"


async def main():
    with bateau.move_on_after(0.02):
        await bateau.race(connects())  # <- found
