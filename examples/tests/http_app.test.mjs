// The app in a real server against a real database: PGHOST, PGUSER (a superuser) and PGDATABASE say which.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import http from 'node:http'
import { after, before, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { requireToken, serve } from '../http_app.mjs'

const admin = new pg.Client()
let role, pool, server, alice, bob
const namespaceOf = async (db) => (await db.query('SELECT api_token_current_namespace() AS n')).rows[0].n
const seen = {} // what handlers left for the tests to look at

const handlers = {
  async 'GET /slow'({ db }, response) {
    await db.query('SELECT pg_sleep(0.02)')
    response.end(await namespaceOf(db))
  },
  async 'POST /order'({ db }, response) {
    await db.query("INSERT INTO orders VALUES (200, api_token_current_namespace(), 'made')")
    response.end()
  },
  async 'POST /order-then-fail'({ db }) {
    await db.query("INSERT INTO orders VALUES (100, 'alice', 'lost')")
    throw new Error('as the test wants')
  },
  async 'POST /order-then-refuse'({ db }, response) {
    await db.query("INSERT INTO orders VALUES (101, 'alice', 'lost')")
    response.statusCode = 409
    response.end()
  },
  async 'POST /order-then-fail-to-commit'({ db }, response) {
    await db.query("INSERT INTO orders VALUES (102, 'alice', 'lost'), (102, 'alice', 'twice')")
    response.setHeader('Content-Length', 4)
    response.end('done')
  },
  async 'POST /order-and-swallow-an-error'({ db }, response) {
    await db.query("INSERT INTO orders VALUES (103, 'alice', 'lost')")
    await db.query('SELECT 1 / 0').catch(() => {})
    response.end()
  },
  async 'GET /cut'({ db }, response) {
    await db.query('SELECT pg_terminate_backend(pg_backend_pid())')
    response.end()
  },
  async 'GET /never'({ db }) {
    await namespaceOf(db)
  },
  async 'POST /go-on-after-the-end'({ db }, response) {
    response.end()
    seen.late = await namespaceOf(db).catch((error) => error.message)
  },
  async 'POST /go-on-after-hanging-up'({ db }) {
    const insert = db.query("INSERT INTO orders VALUES (104, 'alice', 'lost')")
    seen.started = true
    // The client is gone by then, or already before the row is in.
    const sleeps = insert.then(() => db.query('SELECT pg_sleep(0.2)'))
    seen.late = await sleeps.then(() => namespaceOf(db)).catch((error) => error.message)
  },
}

before(async () => {
  console.error = console.info = () => {} // failures are what this is about
  await admin.connect()
  role = `${admin.database}_http`
  await admin.query(`
    CREATE ROLE "${role}" LOGIN;
    CREATE TABLE orders (id integer, namespace text, item text, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO orders VALUES (1, 'alice', 'apples'), (2, 'bob', 'bread'), (3, 'alice', 'almonds');
    ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));
    GRANT SELECT, INSERT ON orders TO "${role}"`)
  await admin.query('SELECT api_tokens_grant($1, $2)', [`"${role}"`, 'validate'])
  alice = await create('alice')
  bob = await create('bob')
  pool = new pg.Pool({ user: role, max: 2, connectionTimeoutMillis: 5000 })
  const main = serve(pool)
  const others = serve(pool, Object.fromEntries(
    Object.entries(handlers).map(([route, handler]) => [route, [requireToken(pool, 'orders:read'), handler]])))
  // The app as it is, and ours beside it on the same port.
  server = http.createServer((request, response) => {
    const app = `${request.method} ${request.url}` in handlers ? others : main
    app.emit('request', request, response)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
})

after(async () => {
  server.close()
  server.closeAllConnections()
  await Promise.race([pool.end(), sleep(2000, null, { ref: false })]) // it waits for those not given back
  await admin.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1', [role])
  await admin.query(`DROP TABLE orders; DROP OWNED BY "${role}"; DROP ROLE "${role}"`)
  await admin.end()
})

async function create(namespace, scopes = '{orders:read}') {
  const statement = 'SELECT token FROM api_token_create($1, scopes => $2)'
  return (await admin.query(statement, [namespace, scopes])).rows[0].token
}

function send(path, authorization, method = 'GET') {
  const { port } = server.address()
  const headers = authorization ? { Authorization: authorization } : {}
  return http.request({ port, host: '127.0.0.1', path, method, headers, agent: false }).end()
}

async function ask(path, token, method, authorization = token && `Bearer ${token}`) {
  const [response] = await once(send(path, authorization, method), 'response')
  const body = (await response.setEncoding('utf8').toArray()).join('')
  for (const secret of [alice, bob, token]) {
    assert.ok(!`${body}${JSON.stringify(response.headers)}`.includes(secret ?? '?'))
  }
  return [response.statusCode, response.headers['www-authenticate'], body]
}

async function orders(token) {
  const [status, , body] = await ask('/orders', token)
  assert.equal(status, 200)
  return JSON.parse(body).map(({ namespace, item }) => [namespace, item])
}

/** All connections of the pool are back, and act as nobody. */
async function assertClean() {
  const clients = await Promise.all([pool.connect(), pool.connect()])
  for (const client of clients) {
    assert.equal(await namespaceOf(client), null)
    assert.equal((await client.query('SELECT FROM orders')).rowCount, 0)
    client.release()
  }
}

const countOrders = async () => Number((await admin.query('SELECT count(*) FROM orders')).rows[0].count)

test('each sees its own', async () => {
  assert.deepEqual(await orders(alice), [['alice', 'apples'], ['alice', 'almonds']])
  assert.deepEqual(await orders(bob), [['bob', 'bread']])
  await assertClean()
})

test('refused', async () => {
  const invalid = [401, 'Bearer error="invalid_token"', '']
  assert.deepEqual(await ask('/orders'), [401, 'Bearer', ''])
  assert.deepEqual(await ask('/orders', 'sk_nonsense'), invalid)
  assert.deepEqual(await ask('/orders', null, 'GET', 'Basic YTpi'), invalid)
  assert.deepEqual(await ask('/orders', null, 'GET', [`Bearer ${alice}`, `Bearer ${bob}`]), invalid)
  assert.deepEqual(await ask('/orders', await create('alice', '{orders:write}')),
    [403, 'Bearer error="insufficient_scope", scope="orders:read"', ''])
  await assertClean()
})

test('revoked', async () => {
  const token = await create('alice')
  assert.equal((await orders(token)).length, 2)
  await admin.query('SELECT api_token_invalidate($1)', [token])
  assert.deepEqual(await ask('/orders', token), [401, 'Bearer error="invalid_token"', ''])
})

test('tenants never mix', async () => {
  let i = 0
  const some = async () => {
    while (i < 300) {
      const [token, namespace] = i++ % 2 ? [alice, 'alice'] : [bob, 'bob']
      if (i % 3 === 0) assert.deepEqual(await ask('/slow', token), [200, undefined, namespace])
      else assert.ok((await orders(token)).every(([owner]) => owner === namespace))
    }
  }
  await Promise.all(Array.from({ length: 8 }, some))
  assert.equal(pool.totalCount, 2)
  await assertClean()
})

test('commits before it answers', async () => {
  for (let i = 0; i < 20; i++) {
    assert.equal((await ask('/order', bob, 'POST'))[0], 200)
    const { rows } = await admin.query('DELETE FROM orders WHERE id = 200 RETURNING namespace')
    assert.deepEqual(rows, [{ namespace: 'bob' }])
  }
})

for (const [path, status] of [
  ['/order-then-fail', 500], ['/order-then-refuse', 409], ['/order-then-fail-to-commit', 500],
  ['/order-and-swallow-an-error', 500],
]) {
  test(`POST ${path} leaves nothing`, async () => {
    assert.deepEqual(await ask(path, alice, 'POST'), [status, undefined, ''])
    assert.equal(await countOrders(), 3)
    await assertClean()
  })
}

test('a handler that goes on after the end acts as nobody else', async () => {
  assert.equal((await ask('/go-on-after-the-end', alice, 'POST'))[0], 200)
  assert.equal(seen.late, 'the transaction has ended')
  await assertClean()
})

test('a connection that breaks', async () => {
  for (let i = 0; i < 3; i++) assert.equal((await ask('/cut', alice))[0], 500)
  assert.deepEqual(await orders(bob), [['bob', 'bread']])
  await assertClean()
})

test('a client that hangs up', { timeout: 60_000 }, async () => {
  seen.started = seen.late = undefined
  const request = send('/go-on-after-hanging-up', `Bearer ${alice}`, 'POST').on('error', () => {})
  while (!seen.started) await sleep(5)
  request.destroy()
  await assertClean()
  while (!seen.late) await sleep(5)
  assert.equal(seen.late, 'the transaction has ended')
  assert.equal(await countOrders(), 3)
})

test('many clients that hang up at any time', async () => {
  for (let i = 0; i < 40; i++) {
    const request = send(i % 2 ? '/slow' : '/never', `Bearer ${alice}`).on('error', () => {})
    await sleep(i / 2)
    request.destroy()
  }
  assert.deepEqual(await orders(bob), [['bob', 'bread']])
  await assertClean()
})
