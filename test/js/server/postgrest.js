// A small HTTP server that speaks to the database as PostgREST does, for tests: POST and GET /rest/v1/rpc/NAME, and as
// much of /rest/v1/TABLE as the examples use. One transaction a request, as authenticator: the settings with is_local,
// READ ONLY for functions that are STABLE and for GET, arguments by name out of the JSON body, SQLSTATE to HTTP status
// by PostgREST's table. POST /auth/v1/token stands in for the auth server: a password gives a token.

'use strict'

const crypto = require('node:crypto')
const http = require('node:http')
const { Client, Pool } = require('pg')

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
const hmac = (text, secret) => crypto.createHmac('sha256', secret).update(text).digest('base64url')

function sign(claims, secret) {
  const text = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(claims)}`
  return `${text}.${hmac(text, secret)}`
}

class Answer extends Error {
  constructor(status, code, message, details = null, hint = null) {
    super(message)
    Object.assign(this, { status, body: { code, message, details, hint } })
  }
}

function claimsOf(headers, secret) {
  const token = (headers.authorization ?? '').replace(/^Bearer /, '')
  if (token === '') return { role: 'anon' }
  const [head, body, signature] = token.split('.')
  if (hmac(`${head}.${body}`, secret) !== signature) throw new Answer(401, 'PGRST301', 'JWT cryptographic operation failed')
  const claims = JSON.parse(Buffer.from(body, 'base64url'))
  if (claims.exp < Date.now() / 1000) throw new Answer(401, 'PGRST303', 'JWT expired')
  return { role: 'anon', ...claims }
}

// mapSQLtoHTTP, the first match counts
const statuses = [
  [/^08/, 503], [/^09/, 500], [/^0[LP]/, 403], [/^2350[35]$/, 409], [/^25006$/, 405], [/^(25|2D)/, 500], [/^28/, 403],
  [/^3[89B]/, 500], [/^40/, 500], [/^53400$/, 500], [/^53/, 503], [/^5[45]/, 500], [/^57P01$/, 503], [/^5[78]/, 500],
  [/^(F0|HV|XX)/, 500], [/^P0001$/, 400], [/^P0/, 500], [/^42883$/, 404], [/^42P01$/, 404], [/^42P17$/, 500]
]

function statusOf(code, role) {
  if (code.startsWith('PT')) return Number(code.slice(2)) || 500
  if (code === '42501') return role === 'anon' ? 401 : 403
  return statuses.find(([pattern]) => pattern.test(code))?.[1] ?? 400
}

const literal = (value) => (value === null ? 'NULL' : Client.prototype.escapeLiteral(String(value)))
const identifier = (name) => Client.prototype.escapeIdentifier(name)

// What PostgREST keeps in its schema cache.
const lookUp = `SELECT p.provolatile = 'v' AS writes, p.proretset AS rows, p.prorettype = 'void'::regtype AS nothing,
    t.typtype = 'c' OR p.prorettype = 'record'::regtype AS object, p.proargnames AS names,
    ARRAY(SELECT format_type(a.type, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, n) ORDER BY a.n) AS types,
    p.pronargs - p.pronargdefaults AS required
  FROM pg_proc AS p JOIN pg_type AS t ON t.oid = p.prorettype
  WHERE p.pronamespace = to_regnamespace($1) AND p.proname = $2 AND p.prokind = 'f'`

async function rpc(client, schema, name, args) {
  const given = Object.keys(args)
  const found = (await client.query(lookUp, [identifier(schema), name])).rows.find(
    (f) => given.every((key) => (f.names ?? []).slice(0, f.types.length).includes(key)) &&
      (f.names ?? []).slice(0, f.required).every((key) => given.includes(key)))
  if (!found) {
    throw new Answer(404, 'PGRST202', `Could not find the function ${schema}.${name}(${given.sort().join(', ')}) in the schema cache`)
  }
  const columns = given.map((key) => `${identifier(key)} ${found.types[found.names.indexOf(key)]}`)
  const body = given.length === 0 ? '' : `json_to_record($1::json) AS body (${columns.join(', ')}), LATERAL `
  const call = `${identifier(schema)}.${identifier(name)}(${given.map((key) => `${identifier(key)} := body.${identifier(key)}`).join(', ')})`
  const fields = found.object ? 'called.*' : 'called AS value'
  const row = found.object ? 'r' : 'r.value'
  const sql = `SELECT coalesce(json_agg(${row}), '[]')::text AS body FROM (SELECT ${fields} FROM ${body}${call} AS called) AS r`
  return { readOnly: !found.writes, sql, values: given.length === 0 ? [] : [JSON.stringify(args)],
    pick: (text) => (found.nothing ? null : found.rows ? text : JSON.stringify(JSON.parse(text)[0])) }
}

function table(method, schema, name, url, body, prefer) {
  const relation = `${identifier(schema)}.${identifier(name)}`
  const columns = (url.searchParams.get('select') ?? '*').split(',').map((c) => (c === '*' ? c : identifier(c))).join(', ')
  if (method === 'GET') {
    return { readOnly: true, sql: `SELECT coalesce(json_agg(r), '[]')::text AS body FROM (SELECT ${columns} FROM ${relation}) AS r`, values: [], pick: (text) => text }
  }
  const rows = [].concat(body)
  const names = Object.keys(rows[0]).map(identifier).join(', ')
  const insert = `INSERT INTO ${relation} (${names}) SELECT ${names} FROM json_populate_recordset(NULL::${relation}, $1::json)`
  const shown = /return=representation/.test(prefer ?? '')
  return { status: 201, sql: shown ? `WITH r AS (${insert} RETURNING ${columns}) SELECT json_agg(r)::text AS body FROM r` : insert,
    values: [JSON.stringify(rows)], pick: (text) => (shown ? text : null) }
}

async function respond(request, text, { pool, secret, schemas }) {
  const url = new URL(request.url, 'http://localhost')
  const { method, headers } = request
  const path = url.pathname.replace(/^\/rest\/v1/, '')
  const claims = claimsOf(headers, secret)
  const schema = headers[method === 'GET' ? 'accept-profile' : 'content-profile'] ?? schemas[0]
  if (!schemas.includes(schema)) {
    throw new Answer(406, 'PGRST106', `Invalid schema: ${schema}`, null, `Only the following schemas are exposed: ${schemas.join(', ')}`)
  }
  const [, called] = /^\/rpc\/(\w+)$/.exec(path) ?? []
  const client = await pool.connect()
  let lost
  try {
    const body = method === 'GET' ? Object.fromEntries(url.searchParams) : JSON.parse(text || '{}')
    const plan = called ? await rpc(client, schema, called, body) : table(method, schema, path.slice(1), url, body, headers.prefer)
    const settings = { search_path: [schema, 'public'].map(identifier).join(', '), role: claims.role, 'request.jwt.claims': JSON.stringify(claims),
      'request.method': method, 'request.path': path, 'request.headers': JSON.stringify(headers), 'request.cookies': '{}' }
    await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${plan.readOnly || method === 'GET' ? 'READ ONLY' : 'READ WRITE'}`)
    await client.query(`SELECT ${Object.entries(settings).map(([key, value]) => `set_config(${literal(key)}, ${literal(value)}, true)`).join(', ')}`)
    const { rows } = await client.query(plan.sql, plan.values)
    await client.query('COMMIT')
    const answer = plan.pick(rows[0]?.body)
    return { status: plan.status ?? (answer === null ? 204 : 200), text: answer ?? '' }
  } catch (error) {
    await client.query('ROLLBACK').catch((failure) => { lost = failure })
    if (error instanceof Answer || !error.code) throw error
    throw new Answer(statusOf(error.code, claims.role), error.code, error.message, error.detail ?? null, error.hint ?? null)
  } finally {
    client.release(lost)
  }
}

// What a sign-in by password ends with: the token, and who it is.
async function token({ email, password }, { admin, secret }) {
  const { rows: [user] } = await admin.query(`SELECT id, aud, role, email, raw_app_meta_data AS app_metadata, raw_user_meta_data AS user_metadata
    FROM auth.users WHERE email = $1 AND encrypted_password = extensions.crypt($2, encrypted_password)`, [email, password])
  if (!user) throw Object.assign(new Answer(400), { body: { code: 400, error_code: 'invalid_credentials', msg: 'Invalid login credentials' } })
  const now = Math.floor(Date.now() / 1000)
  const { id, ...claims } = user
  return { access_token: sign({ sub: id, iat: now, exp: now + 3600, aal: 'aal1', ...claims }, secret), token_type: 'bearer', expires_in: 3600, expires_at: now + 3600,
    refresh_token: 'none', user }
}

// schemas: what PGRST_DB_SCHEMAS lists. log: takes a line for each answer.
exports.start = async function ({ schemas, log = () => {} }) {
  const secret = crypto.randomBytes(32).toString('hex')
  const state = { secret, schemas, pool: new Pool({ user: 'authenticator', max: 5 }), admin: new Pool({ max: 1 }) }
  const server = http.createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', async () => {
      const text = Buffer.concat(chunks).toString()
      let answer
      try {
        answer = request.url.startsWith('/auth/v1/token')
          ? { status: 200, text: JSON.stringify(await token(JSON.parse(text), state)) }
          : await respond(request, text, state)
      } catch (error) {
        if (!(error instanceof Answer)) log(error.stack)
        answer = { status: error.status ?? 500, text: JSON.stringify(error.body ?? { message: error.message }), reason: error.body?.message }
      }
      log(`${request.method} ${request.url} ${answer.status}`)
      response.writeHead(answer.status, answer.reason ?? http.STATUS_CODES[answer.status], { 'Content-Type': 'application/json' })
      response.end(answer.text)
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const year = Math.floor(Date.now() / 1000) + 31536000
  const key = (role) => sign({ iss: 'supabase', role, exp: year }, secret)
  return {
    url: `http://127.0.0.1:${server.address().port}`, anonKey: key('anon'), serviceRoleKey: key('service_role'),
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await Promise.all([state.pool.end(), state.admin.end()])
    }
  }
}
