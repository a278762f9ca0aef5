// Vectors of api_vault_encrypt_value, made by WebCrypto as convex-api-tokens 0.3.2 uses it:
// `node tests/vectors/passphrase.mjs > tests/vectors/passphrase.json`
const encoder = new TextEncoder()
const base64 = (bytes) => Buffer.from(bytes).toString('base64')

async function key(secret) {
  const material = await crypto.subtle.importKey('raw', encoder.encode(secret), 'PBKDF2', false, ['deriveKey'])
  const salt = encoder.encode('convex-api-tokens-salt')
  return crypto.subtle.deriveKey({ name: 'PBKDF2', salt, iterations: 100000, hash: 'SHA-256' }, material,
    { name: 'AES-GCM', length: 256 }, false, ['encrypt'])
}

async function vector(plaintext, secret, byte) {
  const iv = new Uint8Array(12).fill(byte)
  const encrypted = await crypto.subtle.encrypt({ name: 'AES-GCM', iv }, await key(secret), encoder.encode(plaintext))
  return { plaintext, secret, encrypted_value: base64(encrypted), iv: base64(iv) }
}

console.log(JSON.stringify([
  await vector('sk_live_0123456789', 'correct horse battery staple', 1),
  await vector('', 's', 2),
  await vector('välue 🔑', 'ключ '.repeat(40), 3),
], null, 1))
