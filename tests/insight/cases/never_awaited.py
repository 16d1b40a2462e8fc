"""A call without its await."""

import warnings

import bateau


async def save():
    pass


async def main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        save()  # <- found
    await bateau.yield_now()
