from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import Mode
from challenger.errors import ChallengerError, ConfigError
from challenger.settings import BACKENDS, addresses, build, check, every_setting, load
from replay import backends

TWO = {"rpc": ["http://a", "http://b"]}


def test_defaults_watch_and_hold_no_key():
    settings = load(None, {})
    assert settings.mode is Mode.WATCH
    assert not settings.has_key


def test_environment_wins_over_the_file_and_secrets_come_from_files(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[chain]\nrpc = ["http://a"]\nchain_id = 5\n')
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:hush@db/w\n")
    env = {
        "CHALLENGER_CHAIN_CHAIN_ID": "7",
        "CHALLENGER_STORE_URL_FILE": str(secret),
        "CHALLENGER_SIGNER_KEY_FILE": "some/key",
        "CHALLENGER_CHAIN_RPC": "x, y",
    }
    settings = load(file, env)
    assert settings.chain.chain_id == 7
    assert settings.chain.rpc == ("x", "y")
    assert settings.store.url == "postgresql://u:hush@db/w"
    assert settings.signer.key_file == Path("some/key")
    assert settings.mode is Mode.DRY_RUN


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"chian": {}}, "did you mean chain"),
        ({"chain": {"rcp": []}}, "did you mean rpc"),
        ({"chain": 3}, "must be a table"),
        ({"chain": {"chain_id": "abc"}}, "must be an integer"),
        ({"chain": {"chain_id": True}}, "must be an integer"),
        ({"chain": {"chain_id": 1.5}}, "must be an integer"),
        ({"chain": {"rpc": "a,b", "embedded": "perhaps"}}, "must be true or false"),
        ({"chain": {"rpc": [1]}}, "list of strings"),
        ({"chain": {"rpc": []}}, "no endpoint"),
        ({"chain": {"market": "0x12"}}, "40 hex digits"),
        ({"filing": {"mode": "bold"}}, "watch, dry-run, confirm, live"),
        ({"filing": {"mode": "live"}}, "needs a key"),
        ({"filing": {"mode": "live"}, "signer": {"key_env": "K"}}, "single endpoint"),
        ({"signer": {"url": "http://s"}}, "secret_file"),
        ({"filing": {"mode": "confirm"}, "signer": {"key_env": "K"}}, "mode confirm with a single endpoint is refused"),
        ({"sampling": {"base": 1_000_001}}, "millionths"),
        ({"sampling": {"delay": 0}}, "delay"),
        ({"replay": {"backend": "numpy"}}, "not proof"),
        ({"replay": {"backend": "jax"}}, "one of torch, torch-int8, native, native-int8, numpy"),
        ({"replay": {"workers": 0}}, "1 to 64"),
        ({"chain": {"poll": -1}}, "0.01 to 3600"),
        ({"chain": {"poll": float("nan")}}, "0.01 to 3600"),
        ({"chain": {"confirmations": -5}}, "1 to 10000"),
        ({"chain": {"chain_id": -4}}, "chain_id must be"),
    ],
)
def test_each_mistake_is_one_clear_line(raw, says):
    with pytest.raises(ConfigError, match=says) as caught:
        check(build(raw, {}, "c.toml"))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_live_needs_a_key_and_two_endpoints_or_the_embedded_chain():
    two = {"chain": TWO, "filing": {"mode": "live"}, "signer": {"key_env": "K"}}
    assert check(build(two, {}, "-")).mode is Mode.LIVE
    one = {"chain": {"embedded": True}, "filing": {"mode": "live"}, "signer": {"key_env": "K"}}
    assert check(build(one, {}, "-")).mode is Mode.LIVE
    same = {"chain": {"rpc": ["http://a", "http://a"]}, "filing": {"mode": "live"}, "signer": {"key_env": "K"}}
    with pytest.raises(ConfigError, match="single endpoint"):
        check(build(same, {}, "-"))
    for chain in ({"rpc": ["http://a/1", "http://a/2"]}, TWO | {"quorum": 1}, TWO | {"quorum": 3}):
        with pytest.raises(ConfigError, match="different hosts"):
            check(build(two | {"chain": chain}, {}, "-"))
        with pytest.raises(ConfigError, match="different hosts"):
            check(build(two | {"chain": chain, "filing": {"mode": "confirm"}}, {}, "-"))
    own = {"rpc": ["http://127.0.0.1:1", "http://127.0.0.1:2"]}
    assert check(build(two | {"chain": own}, {}, "-")).mode is Mode.LIVE
    with pytest.raises(ConfigError, match="wss://"):
        check(build({"chain": {"websocket": "http://a"}}, {}, "-"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "none.toml", {})
    bad = tmp_path / "bad.toml"
    bad.write_text("[chain\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(bad, {})
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(bad, {})
    with pytest.raises(ConfigError, match="URL_FILE cannot be read"):
        load(None, {"CHALLENGER_STORE_URL_FILE": str(tmp_path / "gone")})


def test_contract_and_chain_id_are_asked_for():
    with pytest.raises(ConfigError, match="market is missing"):
        addresses(load(None, {}))
    with pytest.raises(ConfigError, match="chain_id is missing"):
        addresses(load(None, {"CHALLENGER_CHAIN_MARKET": "0x" + "aB" * 20}))


def test_every_setting_has_a_default():
    names = [(section, name) for section, name, _ in every_setting()]
    assert len(names) == len(set(names)) > 30


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rpc", "mode", "x\ny"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["chain", "filing", "replay", "signer", "odd"]), json_like, max_size=4))
def test_rubbish_is_refused_in_one_line_or_accepted(raw):
    try:
        check(build(raw, {}, "-"))
    except ChallengerError as error:
        assert str(error).isprintable()  # noqa: PT017  acceptance is as good as refusal here


def test_backends_are_those_of_the_engine():
    assert BACKENDS == backends.BACKENDS
    last = BACKENDS[-1]
    assert all(backends.unrelated(last, name) for name in BACKENDS[:-1])
    assert not any(backends.unrelated("torch", name) for name in BACKENDS[:-1])


def test_gateways_are_urls_and_are_not_shown():
    wanted = ("https://ipfs.example/?token=hush", "http://127.0.0.1:8080", "file:///var/blocks.car")
    settings = check(build({"replay": {"gateways": list(wanted)}}, {}, "-"))
    assert settings.replay.gateways == wanted
    assert "hush" not in repr(settings)
    with pytest.raises(ConfigError, match="gateways: each begins with") as caught:
        check(build({"replay": {"gateways": ["https://x", "ftp://x/hush"]}}, {}, "-"))
    assert "number=2" in str(caught.value)
    assert "hush" not in str(caught.value)
