"""Cutting a byte stream into whole events, however the bytes fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.domain import sse

TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)


@given(st.lists(TEXTS, max_size=6), st.sampled_from(["\n", "\r\n"]), st.data())
def test_events_survive_being_cut_anywhere(
    texts: list[str], line: str, data: st.DataObject
) -> None:
    stream = "".join(f"data: {text}{line}{line}" for text in texts).encode()
    splitter, seen, at = sse.Splitter(), b"", 0
    while at < len(stream):
        size = data.draw(st.integers(1, 9))
        block = splitter.feed(stream[at : at + size])
        assert block == b"" or block.endswith((b"\n\n", b"\r\n\r\n"))
        seen += block
        at += size
    assert seen == stream
    assert splitter.rest == b""
    assert list(sse.datas(seen)) == [text.encode().strip() for text in texts]


def test_an_unfinished_event_is_held_back() -> None:
    splitter = sse.Splitter()
    assert splitter.feed(b"data: 1\n\ndata: 2") == b"data: 1\n\n"
    assert splitter.rest == b"data: 2"
    assert splitter.feed(b"\n\n") == b"data: 2\n\n"


def test_comments_and_names_are_no_data() -> None:
    block = b": keep-alive\n\nevent: ping\n\nevent: x\ndata: 1\n\n"
    assert list(sse.datas(block)) == [b"1"]


def test_data_of_several_lines_is_joined() -> None:
    assert sse.data_of(b"data: a\ndata:b\n\n") == b"a\nb"


def test_a_comment_cannot_be_broken_out_of() -> None:
    assert sse.comment("loading\n\ndata: evil").count(b"\n\n") == 1


@pytest.mark.parametrize(
    ("block", "over"),
    [
        (b"data: [DONE]\n\n", True),
        (b'data: {"a": 1}\n\ndata:[DONE]\r\n\r\n', True),
        (b'data: {"content": "[DONE]"}\n\n', False),
        (b"", False),
    ],
)
def test_only_done_alone_ends_a_stream(block: bytes, over: bool) -> None:
    assert sse.ends(block) is over
