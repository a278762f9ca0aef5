"""The app in a real server against a real database: PGHOST, PGUSER (a superuser) and PGDATABASE say which."""

import http.client
import json
import logging
import os
import socket
import sys
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import psycopg
import uvicorn
from psycopg import sql

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["POOL_SIZE"] = "2"
from fastapi_app import app, authenticated, pool

Order = Annotated[psycopg.AsyncConnection, authenticated("orders:read")]
NAMESPACE = "SELECT api_token_current_namespace()"


@app.get("/slow")
async def slow(conn: Order):
    await conn.execute("SELECT pg_sleep(0.02)")
    return (await (await conn.execute(NAMESPACE)).fetchone())[0]


@app.post("/order-then-fail")
async def order_then_fail(conn: Order):
    await conn.execute("INSERT INTO orders VALUES (100, 'alice', 'lost')")
    raise RuntimeError


@app.post("/order-then-fail-to-commit")
async def order_then_fail_to_commit(conn: Order):
    await conn.execute("INSERT INTO orders VALUES (101, 'alice', 'lost'), (101, 'alice', 'twice')")


@app.post("/order-and-swallow-an-error")
async def order_and_swallow_an_error(conn: Order):
    try:
        await conn.execute("INSERT INTO orders VALUES (102, 'alice', 'lost')")
        await conn.execute("SELECT 1 / 0")
    except psycopg.Error:
        pass


@app.get("/cut")
async def cut(conn: Order):
    await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@app.post("/order")
async def order(conn: Order, id: int):
    await conn.execute("INSERT INTO orders VALUES (%s, api_token_current_namespace(), 'made')", (id,))


@app.get("/require-more")
async def require_more(conn: Order):
    await conn.execute("SELECT api_token_require_current('{orders:write}')")


@app.get("/nobody")
async def nobody():
    async with pool.connection() as conn:
        return [
            (await (await conn.execute(NAMESPACE)).fetchone())[0],
            (await (await conn.execute("SELECT count(*) FROM orders")).fetchone())[0],
        ]


class FastApiTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.admin = psycopg.connect(autocommit=True)
        cls.addClassCleanup(cls.admin.close)
        role = f"{cls.admin.info.dbname}_fastapi"

        def run(statements):
            cls.admin.execute(sql.SQL(statements).format(role=sql.Identifier(role)))

        run("""
            CREATE ROLE {role} LOGIN;
            CREATE TABLE orders (id integer, namespace text, item text, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED);
            INSERT INTO orders VALUES (1, 'alice', 'apples'), (2, 'bob', 'bread'), (3, 'alice', 'almonds');
            ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
            CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));
            GRANT SELECT, INSERT ON orders TO {role}
            """)
        cls.addClassCleanup(run, "DROP TABLE orders; DROP OWNED BY {role}; DROP ROLE {role}")
        cls.admin.execute("SELECT api_tokens_grant(%s, 'validate')", (f'"{role}"',))
        cls.alice, cls.bob = cls.create("alice"), cls.create("bob")

        os.environ["PGUSER"] = role
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        thread = threading.Thread(target=server.run)
        thread.start()
        cls.addClassCleanup(thread.join)
        cls.addClassCleanup(setattr, server, "should_exit", True)
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        cls.address = server.servers[0].sockets[0].getsockname()

    @classmethod
    def create(cls, namespace, scopes="{orders:read}"):
        statement = "SELECT token FROM api_token_create(%s, scopes => %s)"
        return cls.admin.execute(statement, (namespace, scopes)).fetchone()[0]

    def ask(self, path, token=None, method="GET", headers=()):
        connection = http.client.HTTPConnection(*self.address, timeout=10)
        connection.putrequest(method, path)
        for value in [f"Bearer {token}"] if token else headers:
            connection.putheader("Authorization", value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        for secret in (self.alice, self.bob, token):
            self.assertNotIn(secret or "?", body + str(response.headers))
        return response.status, response.headers["WWW-Authenticate"], body

    def orders(self, token):
        status, challenge, body = self.ask("/orders", token)
        self.assertEqual((status, challenge), (200, None))
        return [(row["namespace"], row["item"]) for row in json.loads(body)]

    def assert_clean(self):
        """Whichever connection of the pool is asked acts as nobody."""
        for _ in range(4):
            self.assertEqual(json.loads(self.ask("/nobody")[2]), [None, 0])

    def test_each_sees_its_own(self):
        self.assertEqual(self.orders(self.alice), [("alice", "apples"), ("alice", "almonds")])
        self.assertEqual(self.orders(self.bob), [("bob", "bread")])
        self.assert_clean()

    def test_refused(self):
        invalid = (401, 'Bearer error="invalid_token"')
        self.assertEqual(self.ask("/orders")[:2], (401, "Bearer"))
        self.assertEqual(self.ask("/orders", "sk_nonsense")[:2], invalid)
        self.assertEqual(self.ask("/orders", headers=["Basic YTpi"])[:2], invalid)
        self.assertEqual(self.ask("/orders", headers=[f"Bearer {self.alice}", f"Bearer {self.bob}"])[:2], invalid)
        self.assertEqual(
            self.ask("/orders", self.create("alice", "{orders:write}"))[:2],
            (403, 'Bearer error="insufficient_scope", scope="orders:read"'))
        self.assert_clean()

    def test_revoked(self):
        token = self.create("alice")
        self.assertEqual(len(self.orders(token)), 2)
        self.admin.execute("SELECT api_token_invalidate(%s)", (token,))
        self.assertEqual(self.ask("/orders", token)[:2], (401, 'Bearer error="invalid_token"'))

    def test_refused_within_the_route(self):
        self.assertEqual(self.ask("/require-more", self.alice)[0], 403)
        self.assert_clean()

    def test_tenants_never_mix(self):
        def one(i):
            token, namespace = ((self.alice, "alice"), (self.bob, "bob"))[i % 2]
            if i % 3 == 0:
                self.assertEqual(self.ask("/slow", token)[::2], (200, f'"{namespace}"'))
            else:
                self.assertEqual({owner for owner, _ in self.orders(token)}, {namespace})

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(one, range(300)))
        self.assertEqual(pool.get_stats()["pool_size"], 2)
        self.assert_clean()

    def test_commits_before_it_answers(self):
        for id in range(200, 220):
            self.assertEqual(self.ask(f"/order?id={id}", self.bob, "POST")[0], 200)
            found = self.admin.execute("DELETE FROM orders WHERE id = %s RETURNING namespace", (id,)).fetchall()
            self.assertEqual(found, [("bob",)])

    def test_failures_leave_nothing(self):
        for path in ("/order-then-fail", "/order-then-fail-to-commit", "/order-and-swallow-an-error"):
            with self.subTest(path):
                self.assertEqual(self.ask(path, self.alice, "POST")[0], 500)
                self.assertEqual(self.admin.execute("SELECT count(*) FROM orders").fetchone()[0], 3)
                self.assert_clean()

    def test_connection_that_breaks(self):
        for _ in range(3):
            self.assertEqual(self.ask("/cut", self.alice)[0], 500)
        self.assertEqual(self.orders(self.bob), [("bob", "bread")])
        self.assert_clean()

    def test_clients_that_hang_up(self):
        for _ in range(20):
            with socket.create_connection(self.address[:2]) as connection:
                connection.sendall(
                    f"GET /slow HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.alice}\r\n\r\n".encode())
                time.sleep(0.005)
        self.assertEqual(self.orders(self.bob), [("bob", "bread")])
        self.assert_clean()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    unittest.main()
