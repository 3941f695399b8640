"""Settings: who wins, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from smarterrouter import config
from smarterrouter.errors import ConfigError


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> None:
    Path(name).write_text(text)


def test_flags_beat_the_environment_which_beats_env_file_which_beats_toml(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("smarterrouter.toml", "port = 1\nqueue_size = 1\nhost = '127.0.0.2'\nlog_level='error'\n")
    write(".env", "ROUTER_PORT=2\nROUTER_QUEUE_SIZE=2\nROUTER_HOST=127.0.0.3\n")
    monkeypatch.setenv("ROUTER_PORT", "3")
    monkeypatch.setenv("ROUTER_QUEUE_SIZE", "3")
    settings = config.load({"port": 4, "host": None})
    assert (settings.port, settings.queue_size) == (4, 3)
    assert (settings.host, settings.log_level) == ("127.0.0.3", "error")


def test_groups_are_named_in_the_file_and_in_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("smarterrouter.toml", "[vram]\nmax_total_gb = 22\nbuffer_gb = 2\n")
    monkeypatch.setenv("ROUTER_VRAM_MAX_TOTAL_GB", "8.5")
    vram = config.load().vram
    assert (vram.max_total_gb, vram.buffer_gb) == (8.5, 2.0)


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_PORT", "")
    assert config.load().port == 11436


@pytest.mark.parametrize(
    ("name", "value", "range_"),
    [
        ("ROUTER_PORT", "abc", "from 0 to 65535"),
        ("ROUTER_PORT", "70000", "from 0 to 65535"),
        ("ROUTER_QUALITY_PREFERENCE", "2", "0 (fast) to 1 (good)"),
        ("ROUTER_VRAM_MAX_TOTAL_GB", "-1", "gigabytes"),
        ("ROUTER_PROVIDER", "chatgpt", "ollama, llamacpp, openai or managed"),
        ("ROUTER_LOG_LEVEL", "loud", "debug, info, warning or error"),
    ],
)
def test_a_wrong_variable_is_named_with_its_value_source_and_range(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, range_: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        config.load()
    told = caught.value.message
    assert name in told
    assert value in told
    assert "the environment" in told
    assert range_ in told


def test_a_wrong_value_in_the_env_file_names_that_file() -> None:
    write(".env", "ROUTER_PORT=abc\n")
    with pytest.raises(ConfigError, match=r"ROUTER_PORT \(from \.env\)"):
        config.load()


def test_a_wrong_flag_is_named_as_a_flag() -> None:
    with pytest.raises(ConfigError, match="--port"):
        config.load({"port": 99999})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot = 1", "no setting 'prot'"),
        ("[vram]\nmax = 1", r"no setting '\[vram\] max'"),
        ("port = ", "not valid TOML"),
        ("port = 'x'", "port"),
        ("[[backend]]\nname = 'a'\nkind = 'chatgpt'", "kind"),
        ("[[backend]]\nkind = 'openai'", "name"),
        ("[[backend]]\nname = 'a'\nkind = 'openai'\nurll = 'x'", "urll"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(text: str, told: str) -> None:
    write("smarterrouter.toml", text)
    with pytest.raises(ConfigError, match=told) as caught:
        config.load()
    assert "smarterrouter.toml" in caught.value.message


def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(file=Path("other.toml"))


def test_several_backends_are_read_from_the_file() -> None:
    write(
        "smarterrouter.toml",
        "[[backend]]\nname='desk'\nkind='openai'\nurl='http://desk:1'\nprefix='d/'\n"
        "[[backend]]\nname='ggufs'\nkind='managed'\nmodels_dir='~/models'\n",
    )
    desk, ggufs = config.load().backend
    assert (desk.name, desk.url, desk.prefix) == ("desk", "http://desk:1", "d/")
    assert ggufs.models_dir == Path.home() / "models"


def test_keys_have_names() -> None:
    assert config.load({"api_keys": "me:k1, you:k2"}).keys == {"me": "k1", "you": "k2"}


def test_a_malformed_key_list_is_refused_without_printing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUTER_API_KEYS", "topsecret")
    with pytest.raises(ConfigError, match="name:key") as caught:
        config.load()
    assert "topsecret" not in caught.value.message


def test_keys_do_not_show_when_settings_are_printed() -> None:
    settings = config.load({"api_keys": "me:topsecret", "openai_api_key": "sk-hidden"})
    assert "topsecret" not in repr(settings)
    assert "sk-hidden" not in repr(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "::1234", "127.example.com"])
def test_strangers_need_a_key(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load({"host": host}).check_binding()
    assert "ROUTER_API_KEYS" in caught.value.message
    assert "ROUTER_HOST" in caught.value.message
    config.load({"host": host, "api_keys": "me:k"}).check_binding()
    config.load({"host": host, "admin_api_key": "k"}).check_binding()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.9"])
def test_loopback_needs_none(host: str) -> None:
    config.load({"host": host}).check_binding()


def test_variables_of_other_versions_are_found_and_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROUTER_RERANK_MODEL", "x")
    monkeypatch.setenv("ROUTER_VRAM_GUESS", "1")
    monkeypatch.setenv("ROUTER_VRAM_BUFFER_GB", "1")
    config.load()
    assert config.unknown_variables() == ["ROUTER_RERANK_MODEL", "ROUTER_VRAM_GUESS"]


def test_every_setting_says_what_it_may_be() -> None:
    assert all(config.variables().values())


@pytest.mark.parametrize(
    ("name", "table"), [("ROUTER_BACKEND", "[[backend]]"), ("ROUTER_VRAM", "[vram]")]
)
def test_a_whole_table_is_no_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, table: str
) -> None:
    monkeypatch.setenv(name, "[not json")
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert name in caught.value.message
    assert table in caught.value.message


@pytest.mark.parametrize("text", ["openai_api_key = 98765", "api_keys = ['me:98765']"])
def test_a_key_of_the_wrong_kind_is_named_and_not_printed(text: str) -> None:
    write("smarterrouter.toml", text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert text.partition(" ")[0] in caught.value.message
    assert "98765" not in caught.value.message


def test_a_tilde_is_the_user_s_home(monkeypatch: pytest.MonkeyPatch) -> None:
    write("smarterrouter.toml", "models_preset = '~/presets.ini'\n")
    monkeypatch.setenv("ROUTER_LLAMA_SERVER", "~/bin/llama-server")
    settings = config.load()
    assert settings.models_preset == Path.home() / "presets.ini"
    assert settings.llama_server == Path.home() / "bin/llama-server"


def test_an_own_key_opens_the_admin_door_too() -> None:
    assert config.load().own_key is None
    assert config.load({"api_keys": "me:mine"}).own_key == "mine"
    assert config.load({"api_keys": "me:mine", "admin_api_key": "all"}).own_key == "all"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:11436"),
        ("::", "http://[::1]:11436"),
        ("::1", "http://[::1]:11436"),
        ("desk.local", "http://desk.local:11436"),
    ],
)
def test_the_address_is_one_that_can_be_reached(host: str, address: str) -> None:
    assert config.load({"host": host}).address() == address
    assert config.load({"host": host}).address(9) == address.replace("11436", "9")


def test_a_misspelt_key_in_a_backend_is_named_and_not_printed() -> None:
    write("smarterrouter.toml", "[[backend]]\nname='a'\nkind='openai'\napikey='sk-98765'\n")
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert "backend 1.apikey" in caught.value.message
    assert "api_key" in caught.value.message
    assert "98765" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[backend]\nname='a'\napi_key='98765'\n", "[[backend]], with two brackets"),
        ("vram = 3\n", "write [vram]"),
        ("[[backend]]\nname='a'\nurl='http://x'\n", "backend 1.kind"),
        ("[[backend]]\nname='a'\nkind='openai'\nurl='ftp://x'\n", "http:// or https://"),
        ("host = ''\n", "an address of this machine"),
    ],
)
def test_a_table_gone_wrong_is_told_in_plain_words(text: str, told: str) -> None:
    write("smarterrouter.toml", text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert told in caught.value.message
    assert "98765" not in caught.value.message
    assert "Input should be" not in caught.value.message or "kind" in told


def test_the_provider_may_be_spelled_as_it_used_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_PROVIDER", "llama.cpp")
    assert config.load().provider == "llamacpp"
