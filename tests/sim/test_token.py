"""Replay tokens: there and back for anything, short for what is common, clear errors for what is damaged."""

from __future__ import annotations

import base64
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bateau import sim
from bateau.sim.faults import Faults
from bateau.sim.running import one_run
from bateau.sim.strategy import by_name
from bateau.sim.token import FORMAT, PREFIX, Token, TokenError, decode, encode, options_digest

CHOICES = st.dictionaries(
    st.text(max_size=20),
    st.dictionaries(st.integers(0, 10**6), st.integers(1, 300), min_size=1, max_size=20),
    max_size=5,
)


@given(seed=st.integers(-(2**70), 2**70), choices=CHOICES, options=st.binary(min_size=4, max_size=4))
def test_what_is_encoded_is_decoded(seed, choices, options):
    token = Token(seed, choices, options=options)
    text = token.encode()
    assert decode(text) == token
    assert text.startswith(PREFIX)
    assert all(c.isalnum() or c in "-_" for c in text)
    assert decode(f"  {text[:10]}\n   {text[10:]}\r\n") == token, "as a terminal broke it"


def test_a_minimal_failure_is_short():
    assert len(Token(0, {}).encode()) <= 40
    assert len(Token(17, {"tasks test": {3: 1, 8: 2}}).encode()) <= 60


def test_a_long_run_is_compressed():
    answers = dict.fromkeys(range(0, 3000, 3), 1)
    assert len(Token(1, {"tasks test": answers}).encode()) < 120


def test_zero_answers_are_left_out():
    assert decode(Token(1, {"a": {1: 0, 2: 5}, "b": {1: 0}}).encode()).choices == {"a": {2: 5}}


@given(seed=st.integers(0, 2**64), choices=CHOICES, data=st.data())
def test_any_damage_is_noticed(seed, choices, data):
    text = Token(seed, choices).encode()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = data.draw(
        st.one_of(
            st.just(text[:at]),
            st.sampled_from("AZaz09-_!*é").map(lambda c: text[:at] + c + text[at + 1 :]),
            st.just(text[:at] + text[at + 1 :]),
            st.just(text + "A"),
        )
    )
    try:
        decoded = decode(damaged)
    except TokenError:
        return
    # The last character may carry bits that stand for nothing.
    assert decoded == decode(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "starts with 'sim-'"),
        ("hello", "starts with 'sim-', this one with 'hello'"),
        ("sim-", "damaged (it is too short)"),
        ("sim-ABC!", "damaged (it holds other characters"),
        ("sim-AgAAAAAAAA", "damaged (its checksum is wrong)"),
    ],
)
def test_what_is_no_token_is_told_so(text, says):
    with pytest.raises(TokenError) as caught:
        decode(text)
    assert says in str(caught.value)


def test_a_token_of_another_format_is_told_so():
    raw = bytes([FORMAT + 1]) + bytes(20)
    with pytest.raises(TokenError, match=f"is of format {FORMAT + 1} and this bateau .* reads format {FORMAT}"):
        decode(PREFIX + base64.urlsafe_b64encode(raw).decode())


@given(st.binary(max_size=60), st.sampled_from([0, 1]))
def test_a_right_checksum_over_nonsense_is_an_error_too(body, packed):
    content = bytes([packed]) + body
    raw = bytes([FORMAT]) + zlib.crc32(content).to_bytes(4, "big") + content
    try:
        decode(PREFIX + base64.urlsafe_b64encode(raw).decode())
    except TokenError as error:
        assert "damaged" in str(error)  # noqa: PT017  # it need not raise at all


def test_where_it_was_made_is_compared():
    other = Token(0, {}, python=(2, 7), bateau="9.9", options=b"abcd")
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    first, second, third = decode(other.encode()).mismatches({})
    assert f"made on Python 2.7 and this is {here}" in first
    assert "made by bateau 9.9" in second
    assert "other options" in third
    with pytest.raises(TokenError, match="made on Python 2.7"):
        other.require()
    Token(0, {}).require({})


def test_the_digest_of_options_knows_what_matters():
    def prepare(): ...

    options = {
        "faults": Faults(loss=0.1),
        "names": {"b", "a"},
        "nested": {"x": [1, (2, {3})]},
        "fn": prepare,
        "none": None,
    }
    same = {"nested": {"x": [1, (2, {3})]}, "names": {"a", "b"}, "fn": prepare, "faults": Faults(loss=0.1)}
    assert options_digest(options) == options_digest(same)
    assert options_digest(options) != options_digest({**options, "faults": Faults(loss=0.2)})
    assert options_digest({}) == options_digest({"faults": None}) == bytes(4)
    assert options_digest({"x": object()}) == options_digest({"x": object()}), "an address is no difference"


def test_a_run_goes_through_a_token():
    async def scenario():
        return 5

    strategy = by_name("random")
    strategy.begin(7)
    run = one_run(scenario, seed=7, strategy=strategy, faults=Faults.some())
    token = decode(encode(run))
    assert (token.seed, token.choices) == (7, run.choices)
    assert token.mismatches({"faults": Faults.some()}) == []
    assert len(token.mismatches({})) == 1
    assert issubclass(TokenError, ValueError)
    assert sim.run(scenario) == 5


async def module_level(world: sim.World) -> None:
    world.host("a")


def test_a_token_knows_its_scenario_and_its_options():
    faults = Faults.some(loss=0.5)
    token = decode(encode(one_run(module_level, faults=faults, stall=2.0)))
    assert token.target.endswith("test_token.py:module_level")
    assert token.world_options() == {"faults": faults, "stall": 2.0}
    assert sim.replay(module_level, encode(one_run(module_level, faults=faults))).options == {"faults": faults}

    async def local() -> None:
        pass

    assert decode(encode(one_run(local))).target == ""
