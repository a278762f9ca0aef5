// The cache against a real server: PGHOST, PGUSER (a superuser) and PGDATABASE say which.

import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { TokenCache } from '../cache.mjs'

/** Can be held between the answer of the database and its storing, and right after it has caught up. */
class Paused extends TokenCache {
  acceptedByDatabase = 0

  async ask(...args) {
    const row = await super.ask(...args)
    if (row.ok) this.acceptedByDatabase++
    const { pause } = this
    this.pause = undefined
    await pause?.(row)
    return row
  }

  async catchUp(client) {
    await super.catchUp(client)
    const { caughtUp } = this
    this.caughtUp = undefined
    await caughtUp?.()
  }
}

const admin = new pg.Client()
let role, pool, listenTo

before(async () => {
  console.warn = () => {} // outages are what this is about
  await admin.connect()
  role = `${admin.database}_cache_js`
  await admin.query(`CREATE ROLE "${role}" LOGIN`)
  await admin.query('SELECT api_tokens_grant($1, $2)', [`"${role}"`, 'validate'])
  // Connections that stay: an outage lets no new ones come.
  pool = new pg.Pool({ user: role, max: 4, idleTimeoutMillis: 0 })
  pool.on('error', () => {})
  listenTo = { user: role, application_name: 'listener' }
})

after(async () => {
  await pool.end()
  await admin.query(`DROP OWNED BY "${role}"; DROP ROLE "${role}"`)
  await admin.end()
})

async function eventually(condition, milliseconds = 3000) {
  for (const deadline = performance.now() + milliseconds; !(await condition()); await sleep(5)) {
    assert.ok(performance.now() < deadline, 'waited in vain')
  }
}

async function create(namespace = 'n', more = '') {
  const statement = `SELECT token, token_id FROM api_token_create($1, scopes => '{r}' ${more})`
  return (await admin.query(statement, [namespace])).rows[0]
}

const revoke = ({ token_id }) => admin.query('SELECT api_token_invalidate_by_id($1)', [token_id])

const accepts = async (cache, { token }, ...args) => (await cache.validate(token, ...args)).ok

/** Is the answer yes, and out of memory? Only one at a time may ask. */
async function served(cache, token, ...args) {
  const { hits } = cache
  return (await accepts(cache, token, ...args)) && cache.hits > hits
}

async function waitUntilTrusted(cache) {
  const token = await create()
  await eventually(() => served(cache, token))
}

/** Until all events so far are. */
async function waitUntilProcessed(cache) {
  const token = await create()
  await eventually(() => served(cache, token))
  await revoke(token)
  await eventually(async () => !(await accepts(cache, token)))
}

async function withCache(options, body) {
  const cache = new Paused(pool, listenTo, options)
  try {
    await waitUntilTrusted(cache)
    await body(cache)
  } finally {
    await cache.close()
  }
}

/** Cuts the listening connection and lets no new one come; those of the pool live on. */
async function outage(cache, body) {
  await Promise.all(Array.from({ length: 4 }, () => pool.query('SELECT pg_sleep(0.05)')))
  await admin.query(`ALTER ROLE "${role}" NOLOGIN`)
  try {
    await admin.query(
      `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
       WHERE usename = $1 AND application_name = 'listener'`, [role])
    const control = await create()
    await eventually(async () => (await accepts(cache, control)) && !(await served(cache, control)))
    await body?.()
  } finally {
    await admin.query(`ALTER ROLE "${role}" LOGIN`)
  }
}

test('revoked under load', () => withCache({}, async (cache) => {
  const many = async (n, namespace) => {
    const made = []
    while (made.length < n) made.push(await create(namespace))
    return made
  }
  const [oneByOne, together, staying] = [await many(120), await many(20, 'leaving'), await many(20, 'staying')]
  const tokens = [...oneByOne, ...together, ...staying]
  let stop = false
  const refused = new Set()
  const check = async () => {
    while (!stop) {
      const token = tokens[Math.floor(Math.random() * tokens.length)]
      const began = performance.now()
      if (await accepts(cache, token, ['r'])) token.accepted = Math.max(token.accepted ?? 0, began)
      else refused.add(token)
      await setImmediate()
    }
  }
  const checks = Array.from({ length: 8 }, check)
  await eventually(() => cache.hits > 1000 && tokens.every((token) => token.accepted))
  const endings = [
    'SELECT api_token_invalidate_by_id($1)',
    'SELECT api_token_refresh_by_id($1)',
    'SELECT api_token_set_enabled($1, false)',
    `SELECT api_token_update($1, '{"scopes": ["other"]}')`,
  ]
  for (const [i, token] of oneByOne.entries()) {
    await admin.query(endings[i % endings.length], [token.token_id])
    token.ended = performance.now()
    await sleep(5)
  }
  await admin.query("SELECT api_token_invalidate_all('leaving')")
  for (const token of together) token.ended = performance.now()
  await waitUntilProcessed(cache)
  const processed = performance.now()
  await sleep(300)
  stop = true
  await Promise.all(checks)

  const gone = [...oneByOne, ...together]
  const latest = Math.max(...gone.map((token) => token.accepted - token.ended))
  console.log(`${cache.hits} hits, ${cache.acceptedByDatabase} yes by the database, ${cache.misses} misses;`,
    `last yes ${latest.toFixed(1)} ms after a revocation`)
  assert.deepEqual(gone.filter((token) => token.accepted > processed), [])
  assert.ok(latest < 1000)
  assert.ok(staying.some((token) => token.accepted > processed), 'nobody asked any more')
  assert.deepEqual(staying.filter((token) => refused.has(token)), [])
  assert.ok(cache.hits > 10 * cache.acceptedByDatabase)
}))

test('all namespaces at once', () => withCache({}, async (cache) => {
  const token = await create('one of all')
  await accepts(cache, token)
  assert.ok(await served(cache, token))
  await admin.query('SELECT api_token_invalidate_all()')
  await eventually(async () => !(await accepts(cache, token)))
}))

test('an outage', () => withCache({ heartbeat: 500 }, async (cache) => {
  const [seen, unseen, staying] = [await create(), await create(), await create()]
  for (const token of [seen, unseen, staying]) {
    await accepts(cache, token)
    assert.ok(await served(cache, token))
  }
  await outage(cache, async () => {
    await revoke(seen)
    assert.equal(await accepts(cache, seen), false)
    await admin.query(`
      SELECT count(api_token_invalidate_by_id((api_token_create('more than a page')).token_id))
      FROM generate_series(1, 1500)`)
    await revoke(unseen)
    assert.equal(await served(cache, staying), false)
    assert.equal(await accepts(cache, staying), true)
  })
  await eventually(() => served(cache, staying))
  assert.equal(await accepts(cache, unseen), false)
}))

test('revoked between catching up and waiting', () => withCache({ heartbeat: 5000 }, async (cache) => {
  const token = await create()
  await accepts(cache, token)
  await outage(cache, () => {
    cache.caughtUp = async () => {
      await revoke(token)
      await sleep(100) // so that the notification comes before anybody waits for it
    }
  })
  await waitUntilTrusted(cache)
  await eventually(async () => !(await accepts(cache, token)), 2000)
}))

test('no listener', async () => {
  const cache = new TokenCache(pool, { host: '/nowhere' })
  const token = await create()
  for (let i = 0; i < 5; i++) assert.equal(await accepts(cache, token), true)
  await revoke(token)
  assert.equal(await accepts(cache, token), false)
  assert.equal(cache.hits, 0)
  await cache.close()
})

test('a listener that hangs', () => withCache({ heartbeat: 300 }, async (cache) => {
  const token = await create()
  await accepts(cache, token)
  const released = new Promise((resolve) => setTimeout(resolve, 1000))
  cache.caughtUp = () => released
  await eventually(() => cache.caughtUp === undefined)
  await revoke(token)
  await sleep(700)
  assert.equal(await accepts(cache, token), false)
}))

/** Holds a check between the answer and its storing. */
async function checkPaused(cache, token, meanwhile) {
  await new Promise((done, failed) => {
    cache.pause = () => meanwhile().catch(failed)
    accepts(cache, token).then((ok) => done(assert.equal(ok, true))).catch(failed)
  })
}

test('revoked while the answer is on its way', () => withCache({}, async (cache) => {
  const token = await create()
  await checkPaused(cache, token, async () => {
    await revoke(token)
    await waitUntilProcessed(cache)
  })
  assert.equal(await accepts(cache, token), false)
}))

test('an outage while the answer is on its way', () => withCache({ heartbeat: 500 }, async (cache) => {
  const token = await create()
  await checkPaused(cache, token, async () => {
    await outage(cache, () => revoke(token))
    await waitUntilTrusted(cache)
  })
  assert.equal(await accepts(cache, token), false)
}))

test('revoked before the cursor while the answer is on its way', async () => {
  let begin
  const begun = new Promise((resolve) => { begin = resolve })
  class Late extends Paused {
    async catchUp(client) {
      await begun
      await super.catchUp(client)
    }
  }
  const cache = new Late(pool, listenTo)
  after(() => cache.close())
  const token = await create()
  await checkPaused(cache, token, async () => {
    await revoke(token)
    begin()
    await waitUntilTrusted(cache)
  })
  assert.equal(await accepts(cache, token), false)
})

test('entries end', () => withCache({}, (cache) => withCache({ maxAge: 500 }, async (short) => {
  const [token, brief] = [await create(), await create('n', ", expires_at => now() + interval '1 s'")]
  for (const [which, what] of [[cache, brief], [short, token]]) {
    assert.equal(await served(which, what), false)
    assert.equal(await served(which, what), true)
  }
  await sleep(1100)
  assert.equal((await cache.validate(brief.token)).reason, 'expired')
  assert.equal(await served(short, token), false)
  assert.equal(await served(short, token), true)
})))

test('what is kept', () => withCache({ maxEntries: 3 }, async (cache) => {
  const token = await create('n', ", allowed_ips => '{10.0.0.0/8}'")
  for (let i = 0; i < 2; i++) {
    assert.equal((await cache.validate(token.token, ['r'], '192.0.2.1')).reason, 'ip_not_allowed')
    assert.equal((await cache.validate(token.token, ['w'], '10.0.0.1')).reason, 'insufficient_scope')
    assert.equal((await cache.validate(token.token)).reason, 'ip_not_allowed')
    assert.equal(await accepts(cache, token, ['r'], '10.0.0.1'), true)
  }
  assert.ok(await served(cache, token, ['r', 'r'], '10.0.0.1'))
  const row = await cache.validate(token.token, ['r'], '10.0.0.1')
  assert.throws(() => row.scopes.push('w'), TypeError)
  const others = [await create(), await create(), await create()]
  for (const other of others) await accepts(cache, other)
  for (const other of others) assert.ok(await served(cache, other))
  assert.equal(await served(cache, token, ['r'], '10.0.0.1'), false)
}))

test('no is not kept', () => withCache({}, async (cache) => {
  const token = await create()
  for (const enabled of [false, true]) { // enabling is not told to the level validate
    await admin.query('SELECT api_token_set_enabled($1, $2)', [token.token_id, enabled])
    await waitUntilProcessed(cache)
    assert.equal(await accepts(cache, token), enabled)
  }
}))

test('a quota is not kept', () => withCache({}, async (cache) => {
  const token = await create()
  cache.pause = (row) => { row.remaining = '5' }
  assert.equal((await cache.validate(token.token)).remaining, '5')
  assert.equal(await served(cache, token), false)
  assert.equal(await served(cache, token), true)
}))

test('a failed query is an error', () => withCache({}, async (cache) => {
  const token = await create()
  cache.pool = new pg.Pool({ user: 'nobody' })
  await assert.rejects(accepts(cache, token))
  await cache.pool.end()
  cache.pool = pool
  assert.equal(await served(cache, token), false)
  assert.equal(await served(cache, token), true)
}))
