// Makes this folder: what `npx convex export` gives of a deployment that uses convex-api-tokens 0.3.2,
// unzipped, and what the component itself says of each token and value (expected.json).
//
//   npm install --ignore-scripts convex-api-tokens@0.3.2 convex-test@0.0.60 convex@1.48.0
//   node make.mjs FOLDER
//
// The component's own functions run, on Convex's in-memory stand-in for a deployment; only the clock is ours.
// Files, names and the encoding of values are those of Convex' exporter (crates/exports and crates/value of
// get-convex/convex-backend): one document a line, keys in order, numbers always with a fraction.
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { convexTest } from 'convex-test'
import { anyApi } from 'convex/server'
import { convexToJson } from 'convex/values'

const folder = process.argv[2] ?? '.'
const component = join(process.cwd(), 'node_modules/convex-api-tokens/dist')
const load = (path) => import(pathToFileURL(join(component, path)))
const { default: schema } = await load('component/schema.js')
const { encryptValue } = await load('client/index.js')
const t = convexTest({ schema, modules: {
  './_generated/api.js': () => load('component/_generated/api.js'),
  './public.js': () => load('component/public.js'),
} })

const hour = 3600e3
let now = Date.UTC(2025, 2, 1)
Date.now = () => now
const call = (kind) => (name, args) => { now += 1000; return t[kind](anyApi.public[name], args) }
const change = call('mutation')
const ask = call('query')

// Tokens ----------------------------------------------------------------------------------------
const raw = {}
const create = async (label, args) => (raw[label] = (await change('create', args)).token)
const refresh = async (label, token) => (raw[label] = (await change('refresh', { token })).token)

const metadata = { plan: 'pro', seats: 5, ratio: 0.25, scopes: ['orders:read'], big: 9007199254740993n, nested: { deep: [1, null, 'ü', -1n] } }
await create('plain', { namespace: 'customer-1', name: 'ci pipeline', metadata })
await create('bare', { namespace: 'customer-1' })
await create('null metadata', { namespace: 'customer-1', name: '', metadata: null })
await create('expires in 2100', { namespace: 'customer-1', expiresAt: Date.UTC(2100, 0, 1) + 0.5 })
await create('expired', { namespace: 'customer-1', name: 'old', expiresAt: now + 24 * hour })
await create('expires never, by infinity', { namespace: 'customer-1', expiresAt: Infinity })
await create('expires never, by zero', { namespace: 'customer-1', expiresAt: 0, maxIdleMs: 0 })
await create('expired forever', { namespace: 'customer-1', expiresAt: -Infinity })
await create('idle', { namespace: 'customer-1', maxIdleMs: hour })
await create('idle in 100 years', { namespace: 'customer-1', maxIdleMs: 100 * 365 * 24 * hour })
await create('idle at once', { namespace: 'customer-1', maxIdleMs: -5 })
await create('revoked', { namespace: 'customer-1', name: 'leaked' })
await create('revoked and expired', { namespace: 'customer-1', expiresAt: now + 24 * hour })
await create('rotated', { namespace: 'customer-1', name: 'rotated', metadata: ['a'] })
await create('number namespace', { namespace: 42 })
await create('object namespace', { namespace: { org: 7 } })
await create('int64 namespace', { namespace: 77n })
await create('unicode namespace', { namespace: 'Ünïcode 客户 🔑' })
await create('gone', { namespace: 'customer-gone' })
now += 2 * hour
await change('validate', { token: raw.plain })
await change('invalidate', { token: raw.revoked })
await change('invalidate', { token: raw['revoked and expired'] })
await refresh('rotated twice', raw.rotated)
now += 2 * hour
await refresh('heir', raw['rotated twice'])
await change('invalidateAll', { namespace: 'customer-gone' })
raw.unknown = 'sk_' + 'f'.repeat(48)

// Third parties' keys -----------------------------------------------------------------------------
const encryptionKey = 'the app\'s API_TOKENS_ENCRYPTION_KEY, 2025'
const values = [
  ['customer-1', 'stripe', 'sk_live_overwritten'],
  ['customer-1', 'stripe', 'sk_live_51Hxmigrated'],
  ['customer-1', 'openai', 'sk-proj-välue 🔑'],
  ['customer-1', 'empty', ''],
  [42, 'stripe', 'sk_live_of_42'],
]
for (const [namespace, keyName, value] of values) await change('storeValue', { namespace, keyName, value, encryptionKey })
const foreign = await encryptValue('sealed in the browser', 'a passphrase of the client')
await change('storeEncryptedKey', { namespace: 'customer-2', keyName: 'browser', ...foreign })

// The export ----------------------------------------------------------------------------------------
// As serde_json prints what Convex holds: a number is a double, and has a point or an exponent.
function print(value) {
  if (Array.isArray(value)) return `[${value.map(print)}]`
  if (value && typeof value === 'object') {
    return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${print(value[key])}`)}}`
  }
  if (typeof value === 'number' && Number.isInteger(value)) return value.toFixed(1)
  return JSON.stringify(value)
}
const tables = ['tokens', 'encryptedKeys', 'config']
const write = (path, text) => {
  mkdirSync(join(folder, path, '..'), { recursive: true })
  writeFileSync(join(folder, path), text)
}
const prefix = '_components/apiTokens'
const documents = await t.run(async (ctx) => Object.fromEntries(await Promise.all(
  tables.map(async (table) => [table, await ctx.db.query(table).collect()]))))
write('README.md', '# Welcome to your Convex snapshot export!\n')
write('_tables/documents.jsonl', '')
write(`${prefix}/_tables/documents.jsonl`, tables.map((name, at) => `{"id":${10001 + at},"name":"${name}"}\n`).join(''))
for (const table of tables) {
  write(`${prefix}/${table}/documents.jsonl`, documents[table].map((one) => print(convexToJson(one)) + '\n').join(''))
  write(`${prefix}/${table}/generated_schema.jsonl`, '"uniform"\n')
}

// What the component says ---------------------------------------------------------------------------
now = Date.UTC(2025, 5, 1)
const hash = (token) => createHash('sha256').update(token).digest('hex')
const plain = (value) => JSON.parse(JSON.stringify(value ?? null, (_, one) => typeof one === 'bigint' ? String(one) : one))
const tokens = []
for (const [label, token] of Object.entries(raw)) {
  const { ok, reason, namespace } = await change('validate', { token })
  const document = documents.tokens.find((one) => one.tokenHash === hash(token))
  tokens.push({ label, token, convex_id: document?._id, verdict: ok ? 'ok' : reason, namespace: plain(namespace),
    name: document?.name, metadata: plain(document?.metadata), created_ms: document?.createdAt, last_used_ms: document?.lastUsedAt })
}
const opened = []
for (const { namespace, keyName } of documents.encryptedKeys) {
  if (keyName === 'browser') continue
  opened.push({ namespace: plain(namespace), keyName, value: await ask('getValue', { namespace, keyName, encryptionKey }) })
}
write('expected.json', JSON.stringify({ encryptionKey, tokens, values: opened,
  kept: { namespace: 'customer-2', keyName: 'browser', passphrase: 'a passphrase of the client', value: 'sealed in the browser' } }, null, 1) + '\n')
