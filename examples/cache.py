"""A cache of accepted tokens in the memory of one process, kept right by LISTEN and api_token_events().

    pool = psycopg_pool.ConnectionPool(kwargs={"autocommit": True})
    cache = TokenCache(pool)
    cache.validate(token, ["orders:read"])["ok"]

Both connections must lead to the primary: a standby that lags says yes to what is already revoked, and has
no LISTEN. The listening one must not go through a pooler that shares connections between transactions.
Make one cache per process, after a fork. Its role needs the level `validate`.
"""

import hashlib
import logging
import threading
import time
from collections import OrderedDict, defaultdict

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, namedtuple_row

log = logging.getLogger(__name__)

# The server tells how long is left, so that its clock and ours need not agree.
CHECK = """
    SELECT v.*, (extract(epoch FROM v.expires_at) - extract(epoch FROM clock_timestamp()))::float8 AS seconds_left
    FROM api_token_validate_hash(%s, %s, %s::inet) v"""


class TokenCache:
    def __init__(self, pool, listen_to="", max_age=60.0, max_entries=100_000, heartbeat=5.0,
                 channel="api_tokens"):
        """`max_age` also sets how often a use is recorded, so keep it well below any max_idle. Silence is trusted for
        two heartbeats at most. `channel` is the server's api_tokens.notify_channel."""
        self.hits = self.misses = 0
        self._pool, self._listen_to = pool, listen_to
        self._max_age, self._max_entries, self._heartbeat = max_age, max_entries, heartbeat
        self._listen = sql.SQL("LISTEN {}").format(sql.Identifier(channel))
        self._closed = threading.Event()
        self._cursor = None  # of the listening thread alone
        self._lock = threading.Lock()  # guards all below, and is never held while we wait for the database
        self._memory = OrderedDict()  # (digest, scopes, ip) -> (row, when it ends), oldest first
        self._keys = defaultdict(set)  # token_id -> its keys in memory
        self._trusted_until = 0.0
        self._epoch = 0  # counts whatever may have made an answer stale that is still on its way
        threading.Thread(target=self._follow, name="api_tokens cache", daemon=True).start()

    def validate(self, token, required_scopes=None, client_ip=None):
        """The row of api_token_validate_hash() as a dict. Do not change it: the next caller gets the same."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        scopes = sorted(set(required_scopes or ()))
        key = (digest, tuple(scopes), client_ip)
        asked = time.monotonic()
        with self._lock:
            trusted, epoch = asked < self._trusted_until, self._epoch
            row, ends = self._memory.get(key, (None, 0.0))
            if trusted and asked < ends:
                self.hits += 1
                return row
            self.misses += 1
        row = self._ask(digest, scopes, client_ip)
        left = row.pop("seconds_left")
        # A quota is charged per use, so a token that has one is asked for each time.
        if row["ok"] and row["remaining"] is None and trusted:
            with self._lock:
                # Or else a revocation was heard of while the answer was on its way: it may be older.
                if epoch == self._epoch and time.monotonic() < self._trusted_until:
                    self._drop(key)  # so that it goes to the end
                    self._memory[key] = (row, asked + min(self._max_age, self._max_age if left is None else left))
                    self._keys[row["token_id"]].add(key)
                    if len(self._memory) > self._max_entries:
                        self._drop(next(iter(self._memory)))
        return row

    def close(self):
        """The thread ends at its next heartbeat. From now on every check goes to the database."""
        self._closed.set()
        self._distrust()

    def _ask(self, digest, scopes, client_ip):
        with self._pool.connection() as conn:
            return conn.cursor(row_factory=dict_row).execute(CHECK, (digest, scopes, client_ip)).fetchone()

    def _follow(self):
        patience = max(1, round(self._heartbeat))
        while not self._closed.is_set():
            try:
                with psycopg.connect(
                    self._listen_to, autocommit=True, row_factory=namedtuple_row, connect_timeout=10,
                    # What the network lost without a word is found by these, or by a heartbeat without an answer.
                    keepalives_idle=patience, keepalives_interval=patience, keepalives_count=2,
                    tcp_user_timeout=2000 * patience,
                ) as conn:
                    conn.execute(self._listen)  # before reading, so that nothing falls between the two
                    while not self._closed.is_set():
                        asked = time.monotonic()
                        self._catch_up(conn)
                        # A lease: if this thread hangs or dies, the memory goes out of use by itself.
                        with self._lock:
                            if not self._closed.is_set():
                                self._trusted_until = asked + 2 * self._heartbeat
                        for _ in conn.notifies(timeout=self._heartbeat, stop_after=1):
                            pass  # only a wake-up: what happened is read, here as after an outage
            except psycopg.Error as error:
                log.warning("cannot listen, so every check goes to the database: %s", error)
            finally:
                self._distrust()
            self._closed.wait(min(1.0, self._heartbeat))

    def _catch_up(self, conn):
        """Forgets what has changed since the cursor, which outlives the connection."""
        while True:
            end = conn.execute("SELECT api_token_events_end()").fetchone()[0]
            self._cursor = self._cursor or end  # we begin with nothing to forget
            events = conn.execute(
                "SELECT cursor, namespace, token_id FROM api_token_events(%s)", (self._cursor,)
            ).fetchall()
            if not events:
                # Creations are not told to the level validate. Without this each read would pass over them again.
                self._cursor = end
                return
            self._forget(events)
            self._cursor = events[-1].cursor

    def _forget(self, events):
        namespaces = {event.namespace for event in events if event.token_id is None}
        with self._lock:
            self._epoch += 1
            keys = [key for event in events for key in self._keys.get(event.token_id, ())]
            if namespaces:  # None among them is invalidate_all() without a namespace
                keys += [key for key, (row, _) in self._memory.items()
                         if None in namespaces or row["namespace"] in namespaces]
            for key in keys:
                self._drop(key)

    def _drop(self, key):
        if key in self._memory:
            token_id = self._memory.pop(key)[0]["token_id"]
            self._keys[token_id].discard(key)
            if not self._keys[token_id]:
                del self._keys[token_id]

    def _distrust(self):
        with self._lock:
            self._trusted_until = 0.0
            self._epoch += 1
