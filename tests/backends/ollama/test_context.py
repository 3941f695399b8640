"""The rule for ``num_ctx``, by its numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarterrouter.backends.ollama.context import Need, Window, need_of, num_ctx, tokens_of
from smarterrouter.domain.chat import ChatRequest, Endpoint
from smarterrouter.errors import BadRequest


def request(endpoint: Endpoint, prompt_tokens: int, max_tokens: int | None = None) -> ChatRequest:
    return ChatRequest(
        endpoint,
        "m",
        False,
        (),
        frozenset(),
        {},
        max_tokens=max_tokens,
        prompt_tokens=prompt_tokens,
    )


@pytest.mark.parametrize(
    ("need", "window", "expected"),
    [
        (Need(100, 1024, 64), Window(32768, 8192), 8192),
        (Need(8000, 1024, 64), Window(32768, 8192), 16384),
        (Need(20000, 1024, 64), Window(32768, 8192), 32768),
        (Need(32000, 1024, 64), Window(32768, 8192), 32768),
        (Need(100, 1024, 64), Window(2048, 8192), 2048),
        (Need(100, 1024, 64), Window(None, 8192), 8192),
        (Need(100_000, 1024, 64), Window(None, 8192), 131072),
        (Need(100, 90_000, 64), Window(32768, 8192), 32768),
        (Need(100, 1024, 64), Window(32768, 8192, 4096), 4096),
        (Need(100, 1024, 64), Window(32768, 8192, 32768), 32768),
        (Need(8000, 1024, 64), Window(32768, 8192, 8192), 16384),
        (Need(8000, 1024, 64, wished=20000), Window(32768, 8192, 16384), 32768),
        (Need(), Window(32768, 8192), 8192),
        (Need(), Window(32768, 8192, 2048), 2048),
        (Need(wished=9124), Window(32768, 8192), 16384),
        (Need(wished=9124), Window(32768, 8192, 9124), 9124),
        (Need(wished=9124), Window(32768, 8192, 9123), 16384),
        (Need(wished=40_000), Window(32768, 8192), 32768),
    ],
)
def test_the_smallest_context_that_suffices_unless_the_resident_one_does(
    need: Need, window: Window, expected: int
) -> None:
    assert num_ctx(need, window) == expected


def test_a_prompt_that_not_even_the_trained_context_holds_is_refused() -> None:
    window = Window(4096, 8192, 4096)
    assert num_ctx(Need(4032, 1024, 64), window) == 4096
    with pytest.raises(BadRequest, match=r"4033 tokens.*takes 4096") as caught:
        num_ctx(Need(4033, 1024, 64), window)
    assert caught.value.code == "context_length_exceeded"


def test_a_chat_needs_room_for_its_answer() -> None:
    assert need_of(request(Endpoint.CHAT, 100)) == Need(100, 1024, 64)
    assert need_of(request(Endpoint.CHAT, 100, 5000)) == Need(100, 5000, 64)
    assert need_of(request(Endpoint.COMPLETIONS, 100, 10)) == Need(100, 10, 10)
    assert need_of(request(Endpoint.CHAT, 100), 3000, 9000) == Need(1100, 1024, 64, 9000)


def test_texts_to_embed_need_none_and_are_left_to_ollama_to_refuse() -> None:
    need = need_of(request(Endpoint.EMBEDDINGS, 600))
    assert need == Need(600, 0)
    assert num_ctx(need, Window(512, 8192)) == 512


@given(
    st.integers(0, 200_000),
    st.integers(0, 50_000),
    st.one_of(st.none(), st.integers(512, 300_000)),
    st.integers(512, 40_000),
    st.one_of(st.none(), st.integers(4, 300_000)),
)
def test_the_context_holds_the_prompt_or_the_request_is_refused(
    prompt: int, room: int, trained: int | None, default: int, resident: int | None
) -> None:
    need, window = Need(prompt, room, min(room or 64, 64)), Window(trained, default, resident)
    try:
        chosen = num_ctx(need, window)
    except BadRequest:
        assert trained is not None
        assert prompt + min(room or 64, 64) > trained
        return
    assert chosen >= min(prompt + room, trained or prompt + room)
    assert trained is None or chosen <= trained or chosen == resident
    again = num_ctx(need, Window(trained, default, chosen))
    assert again == chosen


@given(
    st.integers(0, 200_000),
    st.integers(0, 50_000),
    st.integers(0, 100_000),
    st.one_of(st.none(), st.integers(512, 300_000)),
    st.integers(512, 40_000),
    st.one_of(st.none(), st.integers(4, 300_000)),
)
def test_the_tokens_needed_say_whether_a_resident_context_stays_and_are_enough_to_load_with(
    prompt: int, room: int, wished: int, trained: int | None, default: int, resident: int | None
) -> None:
    need = Need(prompt, room, wished=wished)
    tokens = tokens_of(need, trained)
    stays = resident is not None and resident >= tokens
    assert stays is (num_ctx(need, Window(trained, default, resident)) == resident)
    loaded = num_ctx(Need(wished=tokens), Window(trained, default, None if stays else resident))
    assert loaded >= tokens
    assert num_ctx(need, Window(trained, default, loaded)) == loaded
