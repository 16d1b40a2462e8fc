"""TextReader and TextWriter beside Python's own text files (law 20)."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bateau
from bateau.io import BufWriter, LimitExceeded, TextReader, TextWriter, duplex

TEXT = "née\r\nêtre\nœuvre\r\rfin\r"


async def reader_of(data: bytes, **options) -> TextReader:
    a, b = duplex(max(1, len(data)))
    await a.write(data)
    await a.aclose()
    return TextReader(b, **options)


@pytest.mark.law(20)
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_reads_as_a_file_does(entry, newline, encoding) -> None:
    data = TEXT.encode(encoding, "replace")
    expected = list(io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline))

    async def main() -> None:
        assert [line async for line in await reader_of(data, encoding=encoding, newline=newline)] == expected
        reader = await reader_of(data, encoding=encoding, newline=newline)
        assert await reader.read() == "".join(expected)
        assert await reader.read() == await reader.readline() == ""

    entry.run(main)


@settings(max_examples=80, deadline=None)
@given(
    text=st.text(alphabet="aé\U0001f6a3\r\n", max_size=60),
    newline=st.sampled_from([None, "", "\n", "\r", "\r\n"]),
    cut=st.integers(1, 7),
)
def test_pieces_don_t_matter(text, newline, cut) -> None:
    data = text.encode()
    expected = list(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=newline))

    async def main() -> None:
        a, b = duplex(cut)

        async def send() -> None:
            await a.write(data)
            await a.aclose()

        async with bateau.scope() as scope:
            scope.spawn(send)
            assert [line async for line in TextReader(b, newline=newline)] == expected

    bateau.run(main)


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
def test_writes_as_a_file_does(entry, newline) -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "utf-16", newline=newline)
    file.write("ein\n")
    file.write("zwei\r\n")
    file.flush()

    async def main() -> None:
        a, b = duplex()
        async with TextWriter(BufWriter(a), "utf-16", newline=newline) as writer:
            assert await writer.write("ein\n") == 4
            await writer.write("zwei\r\n")
            await writer.flush()
            assert await b.read() == raw.getvalue()
        b.close()

    entry.run(main)


@pytest.mark.law(9)
def test_a_cancelled_line_stays_readable(entry) -> None:
    async def main() -> None:
        a, b = duplex()
        reader = TextReader(b)
        await a.write("half é".encode()[:-1])
        for _ in range(2):
            with bateau.move_on_after(0.005) as scope:
                await reader.readline()
            assert scope.cancelled_caught
        await a.write("é\n".encode()[1:])
        assert await reader.readline() == "half é\n"
        reader.close()
        a.close()

    entry.run(main)


def test_errors(runtime) -> None:
    async def main() -> None:
        with pytest.raises(UnicodeDecodeError):
            await (await reader_of(b"\xff")).read()
        assert await (await reader_of(b"\xff", errors="replace")).read() == "�"
        with pytest.raises(LimitExceeded):
            await (await reader_of(b"long line\n", limit=5)).readline()
        a, b = duplex()
        with pytest.raises(ValueError, match="newline"):
            TextReader(b, newline="\t")
        writer = TextWriter(a, "ascii")
        with pytest.raises(TypeError, match="takes a str"):
            await writer.write(b"bytes")
        with pytest.raises(UnicodeEncodeError):
            await writer.write("é")
        writer.close()
        b.close()

    runtime.run(main)
