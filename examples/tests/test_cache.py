"""The cache against a real server: PGHOST, PGUSER (a superuser) and PGDATABASE say which."""

import logging
import random
import sys
import threading
import time
import unittest
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

sys.path.insert(0, str(Path(__file__).parents[1]))
from cache import TokenCache

THREADS = 4


def eventually(condition, seconds=3.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


class Paused(TokenCache):
    """Can be held between the answer of the database and its storing, and right after it has caught up."""

    pause = caught_up = None
    accepted_by_database = 0

    def _ask(self, *arguments):
        row = super()._ask(*arguments)
        self.accepted_by_database += row["ok"]
        if self.pause:
            pause, self.pause = self.pause, None
            pause(row)
        return row

    def _catch_up(self, conn):
        super()._catch_up(conn)
        if self.caught_up:
            caught_up, self.caught_up = self.caught_up, None
            caught_up()


class CacheTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.admin = psycopg.connect(autocommit=True)
        cls.role = f"{cls.admin.info.dbname}_cache_py"
        cls.addClassCleanup(cls.admin.close)
        cls.run_for_role("CREATE ROLE {role} LOGIN")
        cls.addClassCleanup(lambda: cls.run_for_role("DROP OWNED BY {role}; DROP ROLE {role}"))
        cls.admin.execute("SELECT api_tokens_grant(%s, 'validate')", (f'"{cls.role}"',))
        cls.pool = ConnectionPool(kwargs={"autocommit": True, "user": cls.role}, min_size=THREADS, timeout=2, open=True)
        cls.addClassCleanup(cls.pool.close)
        cls.pool.wait()

    @classmethod
    def run_for_role(cls, statement):
        cls.admin.execute(sql.SQL(statement).format(role=sql.Identifier(cls.role)))

    def create(self, namespace="n", **arguments):
        names = "".join(f", {name} => %({name})s" for name in arguments)
        statement = f"SELECT token, token_id FROM api_token_create(%(namespace)s, scopes => '{{r}}'{names})"
        return self.admin.execute(statement, {"namespace": namespace, **arguments}).fetchone()

    def revoke(self, token_id):
        self.admin.execute("SELECT api_token_invalidate_by_id(%s)", (token_id,))

    def cache(self, kind=Paused, **options):
        cache = kind(self.pool, f"user={self.role} application_name=listener", **options)
        self.addCleanup(cache.close)
        if kind is Paused:
            self.wait_until_trusted(cache)
        return cache

    def served(self, cache, token, *arguments):
        """Is the answer yes, and out of memory?"""
        hits = cache.hits
        return cache.validate(token, *arguments)["ok"] and cache.hits > hits

    def wait_until_trusted(self, cache):
        token, _ = self.create()
        eventually(lambda: self.served(cache, token))

    def wait_until_processed(self, cache):
        """Until all events so far are. (Only if refusals stem from events: not while the cache is untrusted.)"""
        token, token_id = self.create()
        eventually(lambda: self.served(cache, token))
        self.revoke(token_id)
        eventually(lambda: not cache.validate(token)["ok"])

    @contextmanager
    def outage(self, cache):
        """Cuts the listening connection and lets no new one come; those of the pool live on."""
        self.run_for_role("ALTER ROLE {role} NOLOGIN")
        try:
            self.admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE usename = %s AND application_name = 'listener'", (self.role,))
            control, _ = self.create()
            eventually(lambda: cache.validate(control)["ok"] and not self.served(cache, control))
            yield
        finally:
            self.run_for_role("ALTER ROLE {role} LOGIN")

    def test_revoked_under_load(self):
        cache = self.cache(heartbeat=5.0)
        one_by_one = [self.create() for _ in range(120)]
        together = [self.create("leaving") for _ in range(20)]
        staying = [self.create("staying") for _ in range(20)]
        tokens = [token for token, _ in one_by_one + together + staying]
        stay = {token for token, _ in staying}
        last_accepted, refused_stayers, stop = [{} for _ in range(THREADS)], [], threading.Event()

        def check(accepted):
            pick = random.Random()
            while not stop.is_set():
                token, began = pick.choice(tokens), time.monotonic()
                if cache.validate(token, ["r"])["ok"]:
                    accepted[token] = began
                elif token in stay:
                    refused_stayers.append(token)

        threads = [threading.Thread(target=check, args=(accepted,), daemon=True) for accepted in last_accepted]
        self.addCleanup(stop.set)
        for thread in threads:
            thread.start()
        eventually(lambda: cache.hits > 1000 and all(any(token in of for of in last_accepted) for token in tokens))
        endings = [
            "SELECT api_token_invalidate_by_id(%s)",
            "SELECT api_token_refresh_by_id(%s)",
            "SELECT api_token_set_enabled(%s, false)",
            """SELECT api_token_update(%s, '{"scopes": ["other"]}')""",
        ]
        ended = {}
        for i, (token, token_id) in enumerate(one_by_one):
            self.admin.execute(endings[i % len(endings)], (token_id,))
            ended[token] = time.monotonic()
            time.sleep(0.005)
        self.admin.execute("SELECT api_token_invalidate_all('leaving')")
        ended |= {token: time.monotonic() for token, _ in together}
        self.wait_until_processed(cache)
        processed = time.monotonic()
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()

        accepted = {token: max(of.get(token, 0) for of in last_accepted) for token in tokens}
        late = [accepted[token] - ended[token] for token in ended]
        print(f"{cache.hits} hits, {cache.accepted_by_database} yes by the database, {cache.misses} misses;"
              f" last yes {1000 * max(late):.1f} ms after a revocation")
        self.assertEqual([token for token in ended if accepted[token] > processed], [])
        self.assertLess(max(late), 1.0)
        self.assertTrue(any(accepted[token] > processed for token in stay), "nobody asked any more")
        self.assertEqual(refused_stayers, [])
        self.assertGreater(cache.hits, 10 * cache.accepted_by_database)

    def test_all_namespaces_at_once(self):
        cache, (token, _) = self.cache(), self.create("one of all")
        cache.validate(token)
        self.assertTrue(self.served(cache, token))
        self.admin.execute("SELECT api_token_invalidate_all()")
        eventually(lambda: not cache.validate(token)["ok"])

    def test_outage(self):
        cache = self.cache(heartbeat=0.5)
        (seen, seen_id), (unseen, unseen_id), (staying, _) = self.create(), self.create(), self.create()
        for token in (seen, unseen, staying):
            cache.validate(token)
            self.assertTrue(self.served(cache, token))
        with self.outage(cache):
            self.revoke(seen_id)
            self.assertFalse(cache.validate(seen)["ok"])
            self.admin.execute("""
                SELECT count(api_token_invalidate_by_id((api_token_create('more than a page')).token_id))
                FROM generate_series(1, 1500)""")
            self.revoke(unseen_id)
            self.assertFalse(self.served(cache, staying))
            self.assertTrue(cache.validate(staying)["ok"])
        eventually(lambda: self.served(cache, staying))
        self.assertFalse(cache.validate(unseen)["ok"])

    def test_revoked_between_catching_up_and_waiting(self):
        cache, (token, token_id) = self.cache(heartbeat=5.0), self.create()
        cache.validate(token)
        with self.outage(cache):
            cache.caught_up = lambda: self.revoke(token_id)
        self.wait_until_trusted(cache)
        eventually(lambda: not cache.validate(token)["ok"], seconds=2)

    def test_no_listener(self):
        token, token_id = self.create()
        cache = TokenCache(self.pool, "host=/nowhere")
        self.addCleanup(cache.close)
        for _ in range(5):
            self.assertTrue(cache.validate(token)["ok"])
        self.revoke(token_id)
        self.assertFalse(cache.validate(token)["ok"])
        self.assertEqual(cache.hits, 0)

    def test_listener_that_hangs(self):
        cache, (token, token_id) = self.cache(heartbeat=0.3), self.create()
        cache.validate(token)
        released = threading.Event()
        self.addCleanup(released.set)
        cache.caught_up = released.wait
        eventually(lambda: cache.caught_up is None)
        self.revoke(token_id)
        time.sleep(0.7)
        self.assertFalse(cache.validate(token)["ok"])

    def check_paused(self, cache, token, meanwhile):
        answered, go, answers = threading.Event(), threading.Event(), []
        cache.pause = lambda _: (answered.set(), go.wait())
        thread = threading.Thread(target=lambda: answers.append(cache.validate(token)["ok"]), daemon=True)
        thread.start()
        answered.wait()
        meanwhile()
        go.set()
        thread.join()
        self.assertEqual(answers, [True])  # it was, when the database was asked

    def test_revoked_while_the_answer_is_on_its_way(self):
        cache, (token, token_id) = self.cache(), self.create()

        def meanwhile():
            self.revoke(token_id)
            self.wait_until_processed(cache)

        self.check_paused(cache, token, meanwhile)
        self.assertFalse(cache.validate(token)["ok"])

    def test_outage_while_the_answer_is_on_its_way(self):
        cache, (token, token_id) = self.cache(heartbeat=0.5), self.create()

        def meanwhile():
            with self.outage(cache):
                self.revoke(token_id)
            self.wait_until_trusted(cache)

        self.check_paused(cache, token, meanwhile)
        self.assertFalse(cache.validate(token)["ok"])

    def test_revoked_before_the_cursor_while_the_answer_is_on_its_way(self):
        begin = threading.Event()
        self.addCleanup(begin.set)

        class Late(Paused):
            def _catch_up(self, conn):
                begin.wait()
                super()._catch_up(conn)

        cache, (token, token_id) = self.cache(Late), self.create()

        def meanwhile():
            self.revoke(token_id)
            begin.set()
            self.wait_until_trusted(cache)

        self.check_paused(cache, token, meanwhile)
        self.assertFalse(cache.validate(token)["ok"])

    def test_ends(self):
        cache, (token, _) = self.cache(), self.create()
        brief, _ = self.create(expires_at=datetime.now().astimezone() + timedelta(seconds=1))
        self.assertFalse(self.served(cache, brief))
        self.assertTrue(self.served(cache, brief))
        short = self.cache(max_age=0.5)
        self.assertFalse(self.served(short, token))
        self.assertTrue(self.served(short, token))
        time.sleep(1.1)
        self.assertEqual(cache.validate(brief)["reason"], "expired")
        self.assertFalse(self.served(short, token))
        self.assertTrue(self.served(short, token))

    def test_what_is_kept(self):
        cache = self.cache(max_entries=3)
        token, _ = self.create(allowed_ips=["10.0.0.0/8"])
        for _ in range(2):
            self.assertEqual(cache.validate(token, ["r"], "192.0.2.1")["reason"], "ip_not_allowed")
            self.assertEqual(cache.validate(token, ["w"], "10.0.0.1")["reason"], "insufficient_scope")
            self.assertEqual(cache.validate(token)["reason"], "ip_not_allowed")
            self.assertTrue(cache.validate(token, ["r"], "10.0.0.1")["ok"])
        self.assertTrue(self.served(cache, token, ["r", "r"], "10.0.0.1"))
        self.assertFalse(cache.validate("garbage \ud800")["ok"])
        others = [self.create()[0] for _ in range(3)]
        for other in others:
            cache.validate(other)
        self.assertTrue(all(self.served(cache, other) for other in others))
        self.assertFalse(self.served(cache, token, ["r"], "10.0.0.1"))
        self.assertEqual((len(cache._memory), len(cache._keys)), (3, 3))

    def test_no_is_not_kept(self):
        cache, (token, token_id) = self.cache(), self.create()
        for enabled in (False, True):  # enabling is not told to the level validate
            self.admin.execute("SELECT api_token_set_enabled(%s, %s)", (token_id, enabled))
            self.wait_until_processed(cache)
            self.assertEqual(cache.validate(token)["ok"], enabled)

    def test_quota_is_not_kept(self):
        cache, (token, _) = self.cache(), self.create()
        cache.pause = lambda row: row.update(remaining=5)
        self.assertEqual(cache.validate(token)["remaining"], 5)
        self.assertFalse(self.served(cache, token))
        self.assertTrue(self.served(cache, token))

    def test_failed_query_is_an_error(self):
        cache, (token, _) = self.cache(), self.create()
        with ConnectionPool(kwargs={"autocommit": True, "user": self.role}, min_size=1, timeout=2, open=True) as pool:
            pool.wait()
            cache._pool = pool
            with pool.connection() as conn:
                pid = conn.info.backend_pid
            self.admin.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
            self.assertRaises(psycopg.OperationalError, cache.validate, token)
            self.assertTrue(cache.validate(token)["ok"])


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # outages are what this is about
    unittest.main()
