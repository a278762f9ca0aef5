"""An HTTP API whose requests act as the token that they bring: `uvicorn fastapi_app:app`.

The server is found by PGHOST and its like. PGUSER must be a role with the level `validate` that neither owns
the tables nor bypasses row level security:

    ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));

Set log_parameter_max_length = 0 in the server, so that it logs no token where it logs statements.
"""

import logging
import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from psycopg import AsyncConnection
from psycopg.errors import InvalidAuthorizationSpecification
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

log = logging.getLogger(__name__)
LIMITS = {"usage_exceeded": 429, "rate_limited": 429, "read_only": 503}
pool = AsyncConnectionPool(open=False, min_size=2, max_size=int(os.environ.get("POOL_SIZE", "10")))


@asynccontextmanager
async def lifespan(app):
    async with pool:
        yield


app = FastAPI(lifespan=lifespan)


def authenticated(*scopes):
    """A connection in a transaction that acts as the request's token, which must hold these scopes."""

    async def transaction(request: Request):
        # One that came twice is joined as a proxy would, and then holds no token.
        header = ", ".join(request.headers.getlist("authorization"))
        if not header:
            raise HTTPException(401, "Unauthorized", {"WWW-Authenticate": "Bearer"})
        try:
            # Commits at the end, or rolls back on any error. With it ends the identity, so that a connection in
            # the pool acts as nobody. A client that hangs up changes nothing: the route runs to its end.
            async with pool.connection() as conn:
                await conn.execute(
                    "SELECT * FROM api_token_require(api_token_from_header(%s), %s)", (header, list(scopes))
                )
                yield conn
                if conn.info.transaction_status == TransactionStatus.INERROR:
                    raise RuntimeError("the route swallowed an error of SQL: nothing would be committed")
        except InvalidAuthorizationSpecification as error:
            raise refusal(error, scopes) from None

    # Ends before the answer is sent, not after: who reads 200 can rely on the commit.
    return Depends(transaction, scope="function")


def refusal(error, scopes):
    """RFC 6750, 3.1. The client is not told more; the log is, with the token's id if it is known."""
    prefix, _, reason = (error.diag.message_primary or "").partition(": ")
    if prefix != "Unauthorized":
        return error
    log.info("%s: %s %s", prefix, reason, error.diag.message_detail or "")
    if reason == "insufficient_scope":
        needed = " ".join(scopes)
        return HTTPException(
            403, "Forbidden", {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{needed}"'}
        )
    if reason in LIMITS:  # the token is good: its holder should wait, not throw it away
        return HTTPException(LIMITS[reason])
    return HTTPException(401, "Unauthorized", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


@app.get("/orders")
async def orders(conn: Annotated[AsyncConnection, authenticated("orders:read")]):
    cursor = conn.cursor(row_factory=dict_row)
    await cursor.execute("SELECT id, namespace, item FROM orders ORDER BY id")  # the policy says whose
    return await cursor.fetchall()
