// An HTTP API whose requests act as the token that they bring, on node:http: `node http_app.mjs`.
//
// The server is found by PGHOST and its like. PGUSER must be a role with the level `validate` that neither owns
// the tables nor bypasses row level security:
//
//     ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
//     CREATE POLICY tenant ON orders USING (namespace = (SELECT api_token_current_namespace()));
//
// Set log_parameter_max_length = 0 in the server, so that it logs no token where it logs statements.

import { createServer } from 'node:http'
import { fileURLToPath } from 'node:url'
import pg from 'pg'

const LIMITS = { usage_exceeded: 429, rate_limited: 429, read_only: 503 }

/**
 * Express middleware, too: app.get('/orders', requireToken(pool, 'orders:read'), handler).
 *
 * The handler's `request.db.query` runs in a transaction that acts as the request's token. The transaction ends
 * with response.end(), before the client hears of it: an answer below 400 commits, any other rolls back, and so
 * does a client that hangs up. With it ends the identity, so that a connection in the pool acts as nobody.
 */
export function requireToken(pool, ...scopes) {
  return async (request, response, next) => {
    // One that came twice is joined as a proxy would, and then holds no token.
    const header = request.headersDistinct.authorization?.join(', ')
    if (!header) return refuse(response, 401, 'Bearer')
    let transaction
    try {
      transaction = await begin(pool)
      await transaction.query('SELECT * FROM api_token_require(api_token_from_header($1), $2)', [header, scopes])
    } catch (error) {
      await transaction?.end('ROLLBACK').catch(() => {})
      if (error.code !== '28000' || !error.message.startsWith('Unauthorized: ')) return next(error)
      console.info(error.message, error.detail ?? '') // names the token's id if it is known; the client is not told
      const reason = error.message.slice('Unauthorized: '.length)
      if (LIMITS[reason]) return refuse(response, LIMITS[reason])
      return reason === 'insufficient_scope'
        ? refuse(response, 403, `Bearer error="insufficient_scope", scope="${scopes.join(' ')}"`)
        : refuse(response, 401, 'Bearer error="invalid_token"')
    }
    endWithResponse(transaction, response)
    request.db = transaction
    next()
  }
}

/** A client until its transaction ends. What a handler asks afterwards would run as whoever has the client then. */
async function begin(pool) {
  const client = await pool.connect()
  const broken = () => {} // its queries fail, which is enough; unheard, the event would end the process
  client.on('error', broken)
  let last, ended
  const query = async (...args) => {
    if (ended) throw new Error('the transaction has ended')
    last = client.query(...args)
    return last
  }
  const finish = async (statement) => {
    await last.catch(() => {}) // who hung up did so in the midst of it, and pg 9 will queue no queries
    const result = await client.query(statement).catch((error) => ({ error }))
    client.off('error', broken)
    client.release(result.error) // one that failed is not used again
    if (result.error) throw result.error
    if (result.command !== statement) throw new Error('the handler swallowed an error of SQL: nothing is committed')
  }
  const transaction = { query, end: (statement) => (ended ??= finish(statement)) }
  await query('BEGIN').catch((error) => transaction.end('ROLLBACK').finally(() => { throw error }))
  return transaction
}

function endWithResponse(transaction, response) {
  const { end } = response
  response.end = (...args) => {
    transaction.end(response.statusCode < 400 ? 'COMMIT' : 'ROLLBACK').then(
      () => end.apply(response, args),
      (error) => {
        response.end = end
        fail(response, error)
      },
    )
    return response
  }
  const hungUp = () => transaction.end('ROLLBACK').catch(() => {})
  if (response.destroyed) hungUp()
  else response.once('close', hungUp)
}

/** RFC 6750, 3.1. Over a limit there is no challenge: the token is good. */
function refuse(response, status, challenge) {
  response.statusCode = status
  if (challenge) response.setHeader('WWW-Authenticate', challenge)
  response.end()
}

export function fail(response, error) {
  console.error(error)
  if (response.headersSent) return response.destroy()
  response.statusCode = 500
  for (const name of response.getHeaderNames()) response.removeHeader(name)
  response.end()
}

async function orders(request, response) {
  const { rows } = await request.db.query('SELECT id, namespace, item FROM orders ORDER BY id') // the policy says whose
  response.setHeader('Content-Type', 'application/json')
  response.end(JSON.stringify(rows))
}

export function serve(pool, routes = { 'GET /orders': [requireToken(pool, 'orders:read'), orders] }) {
  pool.on('error', (error) => console.error(error)) // an idle connection was cut; the pool makes another
  return createServer((request, response) => {
    const [middleware, handler] = routes[`${request.method} ${request.url.split('?')[0]}`] ?? []
    if (!handler) return response.writeHead(404).end()
    middleware(request, response, (error) => {
      if (error) fail(response, error)
      else handler(request, response).catch((error) => fail(response, error))
    })
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  serve(new pg.Pool()).listen(3000)
}
