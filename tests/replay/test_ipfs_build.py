"""CIDs against published ones and against another implementation's.

The figures come from npm's ipfs-unixfs-importer 17 (chunks of 262,144 bytes, 174 links, single leaves as themselves) over the
contents that ``content`` makes; those of files also from PyPI's aleph-cid 0.1.0, which is written in Rust. All three agree.
"""

from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.artifacts.ipfs import KUBO, KUBO_2025, KUBO_RAW, KUBO_V1, Cid, Profile, directory_cid, file_cid
from replay.artifacts.ipfs.build import build_directory, build_file
from replay.artifacts.ipfs.cid import Block
from replay.artifacts.ipfs.errors import NameRefused

CHUNK = 262_144
PROFILES = {"v0": KUBO, "raw": KUBO_RAW, "v1": KUBO_V1, "v1-dag-pb": Profile(1)}

#: size: CID under each profile, and the Tsize of its link under the first
FILES = {
    0: ("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y", 6),
    1: ("QmS9JArPwa55ePgDnyg6TzX24mYTS1b1vLqWNebyVotKxQ", "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu", "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu", "bafybeibyqyrkx66boqbutl5oktknecxgnl43cipcls3knonfmi727rdtnu", 9),
    CHUNK - 1: ("QmR99TkUMzbYGBPXVqdnt59qFsHSKZmEgNxtEoxGV482QF", "bafkreifrgrhsyxaarvqs32usdqnqdtpaz2jvqrwjfpuquc6n74fnkzhezi", "bafkreifrgrhsyxaarvqs32usdqnqdtpaz2jvqrwjfpuquc6n74fnkzhezi", "bafybeibjucnae5izzsccdvzn7ztn3qy2gnspw3qb35fh67j2o5hc4lyboa", 262_157),
    CHUNK: ("QmS3GWDsNMMV78CdwuP8VvcBf2p4FnHmV7pGuzGTbXSNmT", "bafkreibk4imp4vfvvubmke75lnuxrkdktehi5jb6qb43iiy2o4wgc27uoq", "bafkreibk4imp4vfvvubmke75lnuxrkdktehi5jb6qb43iiy2o4wgc27uoq", "bafybeibw7lcezngjicwv7rnew6bofk4uwdxrcqn7pz27rgh2wvnvk4ciby", 262_158),
    CHUNK + 1: ("QmWX6D7XCkEg1NsTUwoYWs9CPzvaatsk4SzuVBDw1YBjxy", "QmSg1LK8gTsokowKCfy1FoQor11uwSy8gBnxM7CbNRVomU", "bafybeicamqnf4dfq6ggj63ljgj5j5ide2e3e3nkh4ef7etrsns2a37a4rm", "bafybeihhmmlijd7yhaqcslltztxdqksiq2fpcimfc7merjqj72rpctz5ha", 262_267),
    10 << 20: ("QmQRGUqyQqRVw1fLqxhSpVkVc6qiYnKFAbmyjAkG2KgHTQ", "QmbSFtnQwzqJHdyqd2Nb4XKULa7h28Edtg541URDMPKCAC", "bafybeigcs6o6vtvdgvsu2crqqrwqucywsbrwzgpslshsrrggktqx4osxke", "bafybeia2xp6zwi4rh3myafquezbv2osyd65pjobgcuo6rp7pl2vwbnj4wu", 10_488_250),
    174 * CHUNK: ("QmRKGHpY8SNsrJAsAedF4eWGh9oH2pCLFVY4QUYedMAXKD", "QmVdhNgyLzrjCg1rrECrPsss5ybFFKnymWHRK9wtsFTfXc", "bafybeidml6zcda6mjx4s6hb2a7y6l4rw7kraswoutgu5kzflivxv6ozug4", "bafybeicrp6rpvsnk37yqxfh2l6qvpe4vpugbffmccexqav3vmza7yq4n4u", 45_623_854),
    174 * CHUNK + 1: ("QmSYSPB2j8JrQXDr4x8yB9XzgYZD4WbyF6oxyVUtDP5i1L", "Qmb29a5kXWjznkzELtaRaHDS2tLZZUeAaQnQvQyLcbn9dB", "bafybeifvufoggkhtbxtrjbu6jnzu7v2v73auxq4xa5ll6632imtfsjyolm", "bafybeie2wmz5h5xvp2vpcg4o7bthtt2wlwdovnotdhbloqzlo7oru5amh4", 45_624_016),
}  # fmt: skip
#: the same under unixfs-v1-2025
FILES_2025 = {
    0: "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    1: "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu",
    CHUNK: "bafkreibk4imp4vfvvubmke75lnuxrkdktehi5jb6qb43iiy2o4wgc27uoq",
    (1 << 20) - 1: "bafkreib2ep74ujd2kmaivjwz2dla5lgl7rjjdkqdnyv4sdne4cohdogio4",
    1 << 20: "bafkreie2awbtsiutokydyo2wku4hhy3idozoybuppopqrv6wzhozgfl4xu",
    (1 << 20) + 1: "bafybeibuluft4ezja3gqos7usof52hxvjz3tlhtgqe7kgwhbl6qq6fbah4",
    10 << 20: "bafybeierzfy3rqrljrv6iyk7oqe7io64cbpaieahwbnaj6rsatg2qgqjyu",
}
#: the directory of three files under each profile, and its Tsize
DIRECTORIES = {
    "v0": ("QmZ6Eid9cFtYdFzpSKvb1mevJQZBq4gPfV6C6Ms3RJ2qGh", 263_439),
    "raw": ("QmPVqF6agvXfvKXfrp48dorMSj5qcuh96BcF7cpCqVRqbJ", 263_408),
    "v1": ("bafybeifavmhvdbet23dmouo2tny2576eytoq7yyhnwrse6a63asuzye5qq", 263_410),
    "v1-dag-pb": ("bafybeiefdxel2evrocgkgcs7556qwx2hoc7iwapijygfbumyer34gvgcly", 263_449),
}


def content(size):
    """Bytes that no two chunks share: byte i is the exclusive or of i's three lowest bytes."""
    i = np.arange(size, dtype=np.uint32)
    return ((i ^ i >> 8 ^ i >> 16) & 255).astype(np.uint8).tobytes()


@pytest.mark.parametrize("size", FILES)
def test_files_have_the_cids_that_another_implementation_gives_them(size):
    data = content(size)
    *cids, dag = FILES[size]
    assert [str(file_cid(data, profile)) for profile in PROFILES.values()] == cids
    built = build_file(data)
    assert (built.size, built.dag) == (size, dag)


@pytest.mark.parametrize("size", FILES_2025)
def test_files_under_the_newer_profile(size):
    assert str(file_cid(content(size), KUBO_2025)) == FILES_2025[size]


def test_the_root_of_ten_mebibytes_has_the_size_that_kubos_interop_tests_know():
    """40 leaves in 1,930 bytes under the old profile, 10 in 509 under the new one."""
    for profile, length in ((KUBO, 1930), (KUBO_2025, 509)):
        blocks = []
        file_cid(bytes(10 << 20), profile, lambda _, block, blocks=blocks: blocks.append(block))
        assert len(blocks[-1]) == length


def test_a_file_is_never_held_whole(tmp_path):
    (tmp_path / "file").write_bytes(content(10 << 20))
    tracemalloc.start()
    try:
        with (tmp_path / "file").open("rb") as opened:
            assert str(file_cid(opened)) == FILES[10 << 20][0]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


@pytest.mark.parametrize(("chunk", "links"), [(0, 174), (-1, 174), (3 << 20, 174), (1024, 1), (1024, 10_000)])
def test_profiles_that_no_block_can_have(chunk, links):
    with pytest.raises(ValueError, match="chunks of 1 to"):
        Profile(0, raw_leaves=False, chunk=chunk, links=links)


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_directory_has_the_cid_that_another_implementation_gives_it(name):
    entries = {"zoë.bin": content(CHUNK + 1), "out-1.png": content(1000), "a.txt": b""}
    built = build_directory(entries, PROFILES[name])
    assert (str(built.cid), built.dag) == DIRECTORIES[name]
    assert built.size == CHUNK + 1001


def test_a_directory_under_the_newer_profile():
    entries = {"zoë.bin": content((1 << 20) + 1), "out-1.png": content(1000), "a.txt": b""}
    built = build_directory(entries, KUBO_2025)
    assert str(built.cid) == "bafybeig6m6bmgwjbgl5vty42z4abuxliv4z6glt4rta25ygxolwatg2ufi"
    assert built.dag == 1_049_842


@pytest.mark.parametrize(
    ("data", "v0", "v1"),
    [
        (b"", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (b"hello world\n", "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o", "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"),
        (b"hello", "QmWfVY9y3xjsixTgbd9AorQxH7VtMpzfx2HaWtsoUYecaX", "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"),
        (b"hello world", "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
    ],
)  # fmt: skip
def test_published_cids(data, v0, v1):
    assert (str(file_cid(data)), str(file_cid(data, KUBO_V1))) == (v0, v1)


def test_the_empty_directory():
    assert str(directory_cid({})) == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"


class Dribble(io.RawIOBase):
    """Gives less than it was asked for, as pipes do."""

    def __init__(self, data, step):
        self._left = io.BytesIO(data)
        self._step = step

    def readable(self):
        return True

    def read(self, size=-1):
        return self._left.read(min(size, self._step))


@given(st.binary(max_size=200), st.integers(1, 60), st.integers(1, 9), st.integers(2, 4))
def test_how_a_file_is_read_does_not_matter(data, step, chunk, links):
    profile = Profile(0, raw_leaves=False, chunk=chunk, links=links)
    assert file_cid(Dribble(data, step), profile) == file_cid(data, profile)


@given(st.binary(max_size=200), st.integers(1, 9), st.integers(2, 4), st.booleans())
def test_every_block_is_handed_on_before_what_links_to_it(data, chunk, links, raw):
    made = []
    built = build_file(
        data, Profile(1, raw_leaves=raw, chunk=chunk, links=links), lambda cid, block: made.append((cid, block))
    )
    assert [Block(cid, block).cid for cid, block in made][-1] == built.cid
    assert sum(len(block) for _, block in made) == built.dag


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\0", "\udc80", "x" * 2000])
def test_names_that_no_directory_can_have(name):
    with pytest.raises(NameRefused):
        directory_cid({name: b""})


def test_a_directory_that_would_be_sharded_is_refused():
    entries = {f"{number:05}": b"" for number in range(7000)}
    with pytest.raises(NameRefused, match="shard"):
        directory_cid(entries)
    some = dict(list(entries.items())[:6000])
    assert isinstance(directory_cid(some), Cid)
    with pytest.raises(NameRefused, match="shard"):  # its block is larger than its names and CIDs
        directory_cid(some, KUBO_2025)
    assert isinstance(directory_cid(dict(list(some.items())[:4000]), KUBO_2025), Cid)
