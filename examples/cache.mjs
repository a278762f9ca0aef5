// A cache of accepted tokens in the memory of one process, kept right by LISTEN and api_token_events().
//
//     const cache = new TokenCache(new pg.Pool())
//     const { ok } = await cache.validate(token, ['orders:read'])
//
// Both connections must lead to the primary: a standby that lags says yes to what is already revoked, and has
// no LISTEN. The listening one must not go through a pooler that shares connections between transactions.
// Its role needs the level `validate`.

import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

// The server tells how long is left, so that its clock and ours need not agree.
const CHECK = `
  SELECT v.*, (extract(epoch FROM v.expires_at) - extract(epoch FROM clock_timestamp()))::float8 AS seconds_left
  FROM api_token_validate_hash($1, $2, $3::inet) v`

const now = () => performance.now()

export class TokenCache {
  hits = 0
  misses = 0
  #memory = new Map() // key -> { row, ends }, oldest first
  #trustedUntil = 0
  #epoch = 0 // counts whatever may have made an answer stale that is still on its way
  #cursor = null
  #closed = false
  #wake = () => {}

  /**
   * Times are milliseconds. `maxAge` also sets how often a use is recorded: keep it well below any max_idle. Silence
   * is trusted for two heartbeats at most. `channel` is the server's api_tokens.notify_channel.
   */
  constructor(pool, listenTo = {}, { maxAge = 60_000, maxEntries = 100_000, heartbeat = 5_000, channel = 'api_tokens' } = {}) {
    Object.assign(this, { pool, listenTo, maxAge, maxEntries, heartbeat, channel })
    this.following = this.#follow()
  }

  /** The row of api_token_validate_hash(), frozen: the next caller gets the same. */
  async validate(token, requiredScopes = [], clientIp = null) {
    const digest = createHash('sha256').update(token).digest()
    const scopes = [...new Set(requiredScopes)].sort()
    const key = JSON.stringify([digest.toString('hex'), scopes, clientIp])
    const asked = now()
    const trusted = asked < this.#trustedUntil
    const epoch = this.#epoch
    const known = this.#memory.get(key)
    if (trusted && asked < known?.ends) {
      this.hits++
      return known.row
    }
    this.misses++
    const { seconds_left: left, ...row } = await this.ask(digest, scopes, clientIp)
    Object.values(Object.freeze(row)).forEach(Object.freeze)
    // A quota is charged per use, so a token that has one is asked for each time. And if the epoch is another,
    // a revocation was heard of while the answer was on its way: it may be older.
    const storable = row.ok && row.remaining === null && trusted
    if (storable && epoch === this.#epoch && now() < this.#trustedUntil) {
      this.#memory.delete(key) // so that it goes to the end
      this.#memory.set(key, { row, ends: asked + Math.min(this.maxAge, left === null ? Infinity : left * 1000) })
      if (this.#memory.size > this.maxEntries) this.#memory.delete(this.#memory.keys().next().value)
    }
    return row
  }

  async close() {
    this.#closed = true
    this.#distrust()
    this.#wake()
    await this.following
  }

  async ask(digest, scopes, clientIp) {
    return (await this.pool.query(CHECK, [digest, scopes, clientIp])).rows[0]
  }

  async #follow() {
    while (!this.#closed) {
      const client = new pg.Client({
        ...this.listenTo, connectionTimeoutMillis: 10_000,
        // What the network lost without a word is found by these, or by a heartbeat without an answer.
        keepAlive: true, keepAliveInitialDelayMillis: this.heartbeat, query_timeout: 2 * this.heartbeat,
      })
      for (const event of ['notification', 'error', 'end']) client.on(event, () => this.#wake())
      try {
        await client.connect()
        await client.query(`LISTEN ${client.escapeIdentifier(this.channel)}`) // before reading, so that nothing falls between the two
        while (!this.#closed) {
          // A notification is only a wake-up: what happened is read, here as after an outage.
          const woken = new Promise((resolve) => { this.#wake = resolve })
          const asked = now()
          await this.catchUp(client)
          // A lease: if the connection hangs, the memory goes out of use by itself.
          if (!this.#closed) this.#trustedUntil = asked + 2 * this.heartbeat
          const timer = setTimeout(this.#wake, this.heartbeat)
          await woken
          clearTimeout(timer)
        }
      } catch (error) {
        console.warn('cannot listen, so every check goes to the database:', error.message)
      }
      this.#distrust()
      client.end().catch(() => {})
      if (!this.#closed) await sleep(Math.min(1_000, this.heartbeat))
    }
  }

  /** Forgets what has changed since the cursor, which outlives the connection. */
  async catchUp(client) {
    for (;;) {
      const { end } = (await client.query('SELECT api_token_events_end() AS end')).rows[0]
      this.#cursor ??= end // we begin with nothing to forget
      const events = (await client.query(
        'SELECT cursor, namespace, token_id FROM api_token_events($1)', [this.#cursor])).rows
      if (events.length === 0) {
        // Creations are not told to the level validate. Without this each read would pass over them again.
        this.#cursor = end
        return
      }
      this.#forget(events)
      this.#cursor = events.at(-1).cursor
    }
  }

  #forget(events) {
    this.#epoch++
    const tokens = new Set(events.map((event) => event.token_id))
    const namespaces = new Set(events.filter((event) => !event.token_id).map((event) => event.namespace))
    if (namespaces.has(null)) this.#memory.clear() // invalidate_all() without a namespace
    for (const [key, { row }] of this.#memory) {
      if (tokens.has(row.token_id) || namespaces.has(row.namespace)) this.#memory.delete(key)
    }
  }

  #distrust() {
    this.#trustedUntil = 0
    this.#epoch++
  }
}
