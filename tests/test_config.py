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
        ("ROUTER_MODEL_KEEP_ALIVE", "soon", "30s, 5m or 1h"),
        ("ROUTER_MODEL_KEEP_ALIVE", "inf", "seconds"),
        ("ROUTER_VRAM_UNLOAD_STRATEGY", "random", "lru"),
        ("ROUTER_VRAM_MONITOR_INTERVAL", "0", "seconds"),
        ("ROUTER_VRAM_AUTO_UNLOAD_ENABLED", "perhaps", "true, or false"),
        ("ROUTER_VRAM_AMD_TOTAL_GB", "-4", "gigabytes"),
        ("ROUTER_QUEUE_WAIT_S", "0", "seconds"),
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
    keys = [field for table in config.TABLES.values() for field in table.keys.model_fields.values()]
    assert all(field.description for field in keys)


def test_no_two_settings_share_a_variable() -> None:
    assert len(config.variables()) == len(list(config.leaves()))


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("ROUTER_BACKEND", "[[backend]]"),
        ("ROUTER_NODE", "[[node]]"),
        ("ROUTER_MODELS", '[models."NAME"]'),
        ("ROUTER_MODEL", "[model]"),
        ("ROUTER_VRAM", "[vram]"),
    ],
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


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_variables_that_old_users_have_still_count(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {
        "ROUTER_VRAM_MAX_TOTAL_GB": "22",
        "ROUTER_VRAM_AUTO_UNLOAD_ENABLED": "false",
        "ROUTER_VRAM_UNLOAD_STRATEGY": "Largest",
        "ROUTER_VRAM_DEFAULT_ESTIMATE_GB": "6",
        "ROUTER_VRAM_MONITOR_INTERVAL": "10",
        "ROUTER_MODEL_KEEP_ALIVE": "300",
        "ROUTER_PINNED_MODEL": "qwen2.5:7b",
    }
    if place == ".env":
        write(".env", "\n".join(f"{name}={value}" for name, value in old.items()))
    else:
        for name, value in old.items():
            monkeypatch.setenv(name, value)
    settings = config.load()
    vram = settings.vram
    assert (vram.max_total_gb, vram.default_estimate_gb, vram.monitor_interval) == (22, 6, 10)
    assert (vram.auto_unload_enabled, vram.unload_strategy) == (False, "largest")
    assert (settings.model.keep_alive, settings.pinned_models) == (300, ("qwen2.5:7b",))


def test_without_settings_models_stay_and_the_longest_unused_goes_first() -> None:
    settings = config.load()
    assert (settings.vram.auto_unload_enabled, settings.vram.unload_strategy) == (True, "lru")
    assert (settings.vram.monitor_interval, settings.queue_wait_s) == (30, 600)
    assert (settings.vram.amd_total_gb, settings.vram.sysfs) == (None, Path("/sys"))
    assert (settings.model.keep_alive, settings.pinned_models) == (-1, ())
    assert (settings.node, settings.models) == ((), {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("300", 300),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("-1", -1),
        ("-5m", -1),
        ("-0.5", -1),
    ],
)
def test_an_idle_model_stays_for_a_time_in_seconds_or_in_ollama_s_spelling(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("ROUTER_MODEL_KEEP_ALIVE", text)
    write("smarterrouter.toml", f'[models."a"]\nkeep_alive = "{text}"\n')
    settings = config.load()
    assert settings.model.keep_alive == seconds
    assert settings.models["a"].keep_alive == seconds


def test_a_length_of_time_may_be_a_number_in_the_file() -> None:
    write("smarterrouter.toml", "[model]\nkeep_alive = 300\n[models.a]\nkeep_alive = -7\n")
    settings = config.load()
    assert (settings.model.keep_alive, settings.models["a"].keep_alive) == (300, -1)


def test_the_folder_and_preset_of_models_are_not_taken_for_tables_of_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("smarterrouter.toml", '[models."qwen2.5:7b"]\nconcurrency = 2\n')
    write(".env", "ROUTER_MODELS_PRESET=~/presets.ini\n")
    monkeypatch.setenv("ROUTER_MODELS_DIR", "[gguf")
    settings = config.load()
    assert (settings.models_dir, settings.models_preset) == (
        Path("[gguf"),
        Path.home() / "presets.ini",
    )
    assert list(settings.models) == ["qwen2.5:7b"]


def test_a_variable_cannot_reach_into_a_table_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["ROUTER_BACKEND_URL", "ROUTER_MODELS_A", "ROUTER_NODE_NAME"]
    for name in names:
        monkeypatch.setenv(name, "{x")
    settings = config.load()
    assert (settings.backend, settings.node, settings.models) == ((), (), {})
    assert config.unknown_variables() == names


def test_nodes_are_read_from_the_file_and_keep_their_keys_to_themselves() -> None:
    write(
        "smarterrouter.toml",
        "[[node]]\nname='desk'\nmetrics_url='desk:9400/metrics'\napi_key='topsecret'\n"
        "[[node]]\nname='local'\nvram_total_gb=24\nmax_total_gb=20\n",
    )
    desk, local = config.load().node
    assert (desk.name, desk.metrics_url, desk.vram_total_gb) == ("desk", "desk:9400/metrics", None)
    assert (local.name, local.vram_total_gb, local.max_total_gb) == ("local", 24, 20)
    assert desk.api_key
    assert desk.api_key.get_secret_value() == "topsecret"
    assert "topsecret" not in repr(desk)


def test_backends_may_share_a_node_that_has_no_table() -> None:
    write(
        "smarterrouter.toml",
        "[[backend]]\nname='a'\nkind='ollama'\nnode='desk'\nconcurrency=4\n"
        "[[backend]]\nname='b'\nkind='llamacpp'\nnode='desk'\n",
    )
    one, other = config.load().backend
    assert (one.node, other.node) == ("desk", "desk")
    assert (one.concurrency, other.concurrency) == (4, None)


def test_pins_come_from_the_variable_first_and_then_from_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(
        "smarterrouter.toml",
        "[models.a]\npinned=true\n[models.b]\npreload=true\n[models.c]\npinned=false\n",
    )
    monkeypatch.setenv("ROUTER_PINNED_MODEL", "c, desk/d,,c")
    settings = config.load()
    assert settings.pinned_models == ("c", "desk/d", "a")
    assert settings.preloaded_models == ("c", "desk/d", "b")


def test_a_model_s_table_by_backend_and_name_goes_before_the_one_by_its_id() -> None:
    write(
        "smarterrouter.toml",
        "[models.'m']\nkeep_alive='5m'\nconcurrency=2\npinned=true\n"
        "[models.'desk/m']\nconcurrency=3\npinned=false\n",
    )
    settings = config.load()
    both = settings.of_model("m", "desk/m")
    assert (both.keep_alive, both.concurrency, both.pinned) == (300, 3, False)
    assert settings.of_model("m", "cloud/m").concurrency == 2
    assert settings.of_model("x", "desk/x").keep_alive is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[node]\nname='a'\n", ["[[node]], with two brackets"]),
        ("[[node]]\nname='a'\n", ["node 1", "'a' needs metrics_url", "or vram_total_gb"]),
        ("[[node]]\nvram_total_gb=1\n", ["node 1.name", "letters"]),
        ("[[node]]\nname='my desk'\nvram_total_gb=1\n", ["node 1.name", "letters"]),
        ("[[node]]\nname='a'\nvram_total_gb=-1\n", ["node 1.vram_total_gb", "-1", "gigabytes"]),
        ("[[node]]\nname='a'\nvram_total_gb=1\nmax_total_gb=0\n", ["max_total_gb", "gigabytes"]),
        ("[[node]]\nname='a'\nmetrics_url='ftp://x'\n", ["metrics_url", "http:// or https://"]),
        (
            "[[node]]\nname='a'\nvram_total_gb=1\napikey='98765'\n",
            ["node 1.apikey", "no such setting", "There are: name, metrics_url"],
        ),
        (
            "[[node]]\nname='a'\nvram_total_gb=1\n[[node]]\nname='a'\nvram_total_gb=2\n",
            ["[[node]]", "two of them are called 'a'"],
        ),
        (
            "[[backend]]\nname='a'\nkind='ollama'\n[[backend]]\nname='a'\nkind='openai'\n",
            ["[[backend]]", "two of them are called 'a'", "its own name"],
        ),
        (
            "[[backend]]\nname='a'\nkind='ollama'\nconcurrency=0\n",
            ["backend 1.concurrency", "requests"],
        ),
        ("backend = [3]\n", ["backend 1", "[[backend]], with two brackets"]),
        ("models = 3\n", ['write [models."NAME"]']),
        ("[[models]]\npinned=true\n", ['write [models."NAME"]']),
        ("[models]\ndir='~/models'\n", ['write [models."NAME"]', "is models_dir meant?"]),
        ("[models.'a:b']\nkeep_alive='soon'\n", ['models."a:b".keep_alive', "5m or 1h"]),
        ("[models.a]\nkeep_alive=true\n", ['models."a".keep_alive', "no length of time"]),
        ("[models.pinned]\nconcurrency=0\n", ['models."pinned".concurrency', "requests"]),
        ("[models.a]\npin=true\n", ['models."a".pin', "There are: keep_alive", "pinned"]),
        ("[models.qwen2.5]\npinned=true\n", ["wants quotes"]),
        ("[model.a]\npinned=true\n", ['One model\'s are [models."a"]']),
    ],
)
def test_a_wrong_table_is_told_which_it_is_and_what_there_may_be(
    text: str, told: list[str]
) -> None:
    write("smarterrouter.toml", text)
    with pytest.raises(ConfigError) as caught:
        config.load()
    assert "smarterrouter.toml" in caught.value.message
    assert "98765" not in caught.value.message
    for words in told:
        assert words in caught.value.message


def test_an_env_file_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes(b"ROUTER_HOST=\xe9\n")
    with pytest.raises(ConfigError, match=r"\.env is not text"):
        config.load()
