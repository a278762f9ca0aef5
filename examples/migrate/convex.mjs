// Moves the tokens and keys of convex-api-tokens 0.3.2 into api_tokens, from an unzipped `npx convex export`.
//
//   node convex.mjs [--keep-sealed] EXPORT/_components/apiTokens
//
// Where to is said by PGHOST, PGDATABASE, PGUSER …, what opens the keys by API_TOKENS_ENCRYPTION_KEY. All of it is
// one transaction: after an error nothing is there. What a run before has moved is left as it is, but for tokens that
// were revoked since. docs/migration.md says what is carried over and what is not.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'

/** Not a Postgres error: its text is ours, and has no value of a document in it. */
class Refused extends Error {}

const keepSealed = process.argv.includes('--keep-sealed')
const folders = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const secret = process.env.API_TOKENS_ENCRYPTION_KEY

/** The documents of a table, with their lines. */
function documents(table) {
  const lines = readFileSync(join(folders[0], table, 'documents.jsonl'), 'utf8').split('\n')
  return lines.flatMap((line, at) => line.trim() ? [{ place: `${table}, line ${at + 1}`, ...parsed(line, table, at + 1) }] : [])
}

function parsed(line, table, number) {
  try {
    const document = JSON.parse(line)
    if (document && typeof document._id === 'string') return document
  } catch {
    // The error would show the line.
  }
  throw new Refused(`${table}, line ${number}: no document`)
}

/** A Convex value as plain JSON. 64-bit integers become strings of digits, which JSON keeps whole. */
function plain(value) {
  if (Array.isArray(value)) return value.map(plain)
  if (!value || typeof value !== 'object') return value
  if ('$integer' in value) return String(Buffer.from(value.$integer, 'base64').readBigInt64LE())
  if ('$float' in value) return String(Buffer.from(value.$float, 'base64').readDoubleLE())
  if ('$bytes' in value) return value.$bytes
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]))
}

/** A namespace here is a text. There it is any value: strings stay, others become their JSON. */
function namespace(value) {
  const simple = plain(value)
  return typeof simple === 'string' ? simple : JSON.stringify(simple)
}

/** Two customers must not become one: 42 and "42" are two namespaces there. */
function refuseMerged(all) {
  const sources = new Map()
  for (const { place, namespace: value } of all) {
    if (value === undefined) throw new Refused(`${place}: no namespace`)
    const source = JSON.stringify(value)
    const first = sources.get(namespace(value)) ?? { place, source }
    if (first.source !== source) throw new Refused(`${place}: another namespace than that of ${first.place}, and the same as text`)
    sources.set(namespace(value), first)
  }
}

/** null where it is not given, and where it would never come. */
function milliseconds(value) {
  const number = value === undefined ? NaN : Number(plain(value))
  return number <= 8.64e15 ? number : null
}

/** As the component reads an end: 0 is none, and anything less has come. */
function end(value) {
  const number = milliseconds(value)
  return number ? Math.max(number, 0.001) : null
}

const ADD_TOKEN = `
  INSERT INTO convex_tokens (convex_id, token_id)
  SELECT $1, api_token_import($2, decode($3, 'hex'), $4, name => $5, metadata => $6,
    expires_at => to_timestamp($7::float8 / 1000),
    max_idle => make_interval(secs => $8::float8 / 1000),
    created_at => least(to_timestamp($9::float8 / 1000), clock_timestamp()),
    last_used_at => least(to_timestamp($10::float8 / 1000), clock_timestamp()),
    revoked_at => CASE WHEN $11 THEN least(to_timestamp($12::float8 / 1000), clock_timestamp()) END)`

async function moveTokens(db, tokens) {
  const { rows } = await db.query('SELECT convex_id, token_id FROM convex_tokens')
  const known = new Map(rows.map((row) => [row.convex_id, row.token_id]))
  // There a revocation has no time; that of a rotated token is when its heir was made.
  const born = new Map(tokens.map((token) => [token._id, milliseconds(token.createdAt)]))
  const moved = { new: 0, revoked: 0, known: 0 }
  for (const token of tokens) {
    await at(token.place, async () => {
      if (known.has(token._id)) {
        moved.known += 1
        if (token.revoked && await revoke(db, known.get(token._id))) moved.revoked += 1
        return
      }
      if (!/^[0-9a-f]{64}$/.test(token.tokenHash)) throw new Refused('tokenHash is no SHA-256 in hex')
      await db.query(ADD_TOKEN, [token._id, namespace(token.namespace), token.tokenHash, token.tokenPrefix, token.name ?? null,
        token.metadata === undefined ? null : JSON.stringify(plain(token.metadata)),
        end(token.expiresAt), end(token.maxIdleMs), milliseconds(token.createdAt), milliseconds(token.lastUsedAt),
        token.revoked === true, born.get(token.replacedBy) ?? null])
      moved.new += 1
    })
  }
  return moved
}

/** Whether it was not revoked before. */
async function revoke(db, id) {
  const { rows } = await db.query(
    'SELECT api_token_invalidate_by_id(token_id) FROM api_token_get($1) WHERE NOT revoked', [id])
  return rows.length > 0
}

const IS_NEW = 'NOT EXISTS (SELECT FROM api_vault_list($1, include_deleted => true) v WHERE v.key_name = $2)'
const RESEAL = `SELECT api_vault_store($1, $2, api_vault_decrypt_value($3, $4, $5), expected_version => 0) WHERE ${IS_NEW}`
const KEEP = `SELECT api_vault_store_encrypted($1, $2, $3, $4) WHERE ${IS_NEW}`

/** The value is opened and sealed again inside the server: this program never sees it. */
async function moveKeys(db, keys) {
  const moved = { new: 0, kept: 0, known: 0 }
  for (const key of keys) {
    await at(key.place, async () => {
      const sealed = [namespace(key.namespace), key.keyName, key.encryptedValue, key.iv]
      const resealed = await unlessSealedByAnother(db, () => db.query(RESEAL, [...sealed, secret]))
      const { rows } = resealed ?? await db.query(KEEP, sealed)
      moved[rows.length === 0 ? 'known' : resealed ? 'new' : 'kept'] += 1
    })
  }
  return moved
}

/** null if there is no secret, or another one, and sealed values shall be kept. */
async function unlessSealedByAnother(db, reseal) {
  if (!keepSealed) return reseal()
  if (!secret) return null
  await db.query('SAVEPOINT sealed')
  try {
    return await reseal()
  } catch (error) {
    if (error.code !== '22023') throw error
    await db.query('ROLLBACK TO sealed')
    return null
  }
}

async function at(place, act) {
  try {
    await act()
  } catch (error) {
    error.message = `${place}: ${error.message}`
    throw error
  }
}

async function migrate() {
  if (folders.length !== 1) throw new Refused('usage: node convex.mjs [--keep-sealed] EXPORT/_components/apiTokens')
  const tokens = documents('tokens')
  const keys = documents('encryptedKeys')
  refuseMerged([...tokens, ...keys])
  if (keys.length > 0 && !secret && !keepSealed) {
    throw new Refused('there are encrypted keys: set API_TOKENS_ENCRYPTION_KEY, or say --keep-sealed')
  }
  const db = new pg.Client()
  await db.connect()
  try {
    await db.query('BEGIN')
    await db.query(`SET LOCAL client_min_messages = warning;
      CREATE TABLE IF NOT EXISTS convex_tokens (convex_id text PRIMARY KEY, token_id uuid NOT NULL);
      LOCK TABLE convex_tokens IN EXCLUSIVE MODE`)
    const ofTokens = await moveTokens(db, tokens)
    const ofKeys = await moveKeys(db, keys)
    await db.query('COMMIT')
    console.log(`tokens: ${ofTokens.new} moved, ${ofTokens.known} there before, ${ofTokens.revoked} of them revoked since`)
    console.log(`keys: ${ofKeys.new} sealed anew, ${ofKeys.kept} kept as they were sealed, ${ofKeys.known} there before`)
  } finally {
    await db.end()
  }
}

migrate().catch((error) => {
  // No detail and no context: they may quote what was sent.
  const sqlstate = error instanceof pg.DatabaseError ? ` (${error.code})` : ''
  console.error(`nothing was changed: ${error.message || error.code}${sqlstate}`)
  process.exitCode = 1
})
