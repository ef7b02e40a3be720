// The examples of docs/supabase-js.md, in their order and as they stand there, against server/postgrest.js: each prints what
// the page says it prints. TAP; the database is the one of PGDATABASE.

'use strict'

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { inspect } = require('node:util')
const { Client } = require('pg')
const server = require('./server/postgrest.js')

// A client cannot be made without; Node.js has had one of its own since 22, and nothing here uses it.
globalThis.WebSocket ??= class WebSocket {}

const page = path.join(__dirname, '../../docs/supabase-js.md')
const text = fs.readFileSync(page, 'utf8')
let tests = 0
let failed = 0

function ok(good, name, ...details) {
  console.log(`${good ? 'ok' : 'not ok'} ${++tests} - ${name}`)
  if (good) return
  failed++
  details.join('\n').split('\n').forEach((line) => console.log(`#   ${line}`))
}

const same = (got, wanted, name) => ok(got === wanted, name, 'got:', got, 'the page says:', wanted)

// Each block with its language, its line, and the block without a language after it, which is what it prints.
const blocks = []
for (const match of text.matchAll(/^```(\w*)\n(.*?)^```$/gms)) {
  const [, language, body] = match
  const line = text.slice(0, match.index).split('\n').length
  if (language === '') blocks.at(-1).prints = body.trimEnd()
  else blocks.push({ language, body, line, prints: '' })
}

// As psql shows it; as the role that the first line names.
function sql({ body }) {
  const [, role = 'postgres'] = /^-- as (\w+)$/m.exec(body) ?? []
  const psql = ['-X', '-q', '-v', 'ON_ERROR_STOP=1', '-U', role, '-P', 'footer=off', '-f', '-']
  return execFileSync('psql', psql, { input: body, encoding: 'utf8', env: { ...process.env, PGOPTIONS: '-c client_min_messages=warning' } })
    .split('\n').map((row) => row.trimEnd()).join('\n').replace(/\n+$/, '')
}

let lines = []
const print = (...values) => lines.push(...values.map((value) => (typeof value === 'string' ? value : inspect(value, { depth: 6, breakLength: 110 }))).join(' ').split('\n'))

// One function of all the blocks, so that each sees what the ones before declared.
const AsyncFunction = (async () => {}).constructor
function story() {
  const source = blocks.map((block, i) => {
    if (block.language === 'sql') return `await $sql(${i})`
    if (block.language !== 'js') return ''
    const body = block.body.replace(/^import \{ (.*) \} from '(.*)'$/gm, "const { $1 } = require('$2')")
    return `${body}\nawait $printed(${i})`
  })
  return new AsyncFunction('$sql', '$printed', 'console', 'require', 'process', source.join('\n;\n'))
}

async function main() {
  const log = []
  const api = await server.start({ schemas: ['public', 'graphql_public', 'invite_sync'], log: (line) => log.push(line) })
  const env = { SUPABASE_URL: api.url, SUPABASE_ANON_KEY: api.anonKey, SUPABASE_SERVICE_ROLE_KEY: api.serviceRoleKey }
  let reached = -1
  try {
    await story()(
      (i) => same(sql(blocks[i]), blocks[i].prints, `sql at line ${blocks[reached = i].line}`),
      (i) => {
        same(lines.join('\n'), blocks[reached = i].prints, `js at line ${blocks[i].line}`)
        lines = []
      },
      { log: print, error: print, warn: () => {} }, require, { env })
  } catch (error) {
    ok(false, `the block after line ${blocks[reached]?.line ?? 0} throws`, error.stack, ...lines, ...log.slice(-10))
  }
  await api.close()
  await whatItSays(log)
  console.log(`1..${tests}`)
  process.exitCode = failed ? 1 : 0
}

// What the page says beside its examples.
async function whatItSays(log) {
  const client = new Client()
  await client.connect()
  const called = new Set(log.map((line) => /\/rpc\/(\w+)/.exec(line)?.[1]).filter(Boolean))
  const named = new Set([...text.matchAll(/\.rpc\('(\w+)'/g)].map((match) => match[1]))
  same([...called].sort().join(' '), [...named].sort().join(' '), 'every function that the page calls was called, and no other')
  ok(!log.some((line) => / 5\d\d$/.test(line)), 'no call ended with a status of 500 or more', ...log)

  // its table of refusals: SQLSTATE | HTTP status | reason words
  const refusals = [...text.matchAll(/^\| `PT(\d{3})` \| (\d{3}) \| (.*?) \|/gm)]
  ok(refusals.length >= 8 && refusals.every(([, code, status]) => code === status), 'the table of refusals gives each code its status')
  const source = fs.readdirSync(path.join(__dirname, '../../src')).filter((name) => /\.c$/.test(name))
    .map((name) => fs.readFileSync(path.join(__dirname, '../../src', name), 'utf8')).join('')
  for (const [, code, , words] of refusals) {
    const unknown = [...words.matchAll(/`(\w+)`/g)].map((match) => match[1])
      .filter((word) => !new RegExp(`\\{"${word}", "PT${code}"|"PT${code}"[^}]*"${word}"`).test(source))
    same(unknown.join(' '), '', `the reasons of PT${code} are the extension's`)
  }

  // RETURNS TABLE and named types have typed answers, bare OUT arguments and record have none
  const { rows } = await client.query(`SELECT p.proname FROM pg_proc AS p
    WHERE p.pronamespace = 'invite_sync'::regnamespace AND p.proname = ANY ($1)
      AND p.prorettype = 'record'::regtype AND NOT 't' = ANY (p.proargmodes)`, [[...named]])
  same(rows.map((row) => row.proname).join(' '), '', 'every function of the page has an answer that can be typed')
  for (const [, type] of text.matchAll(/\['CompositeTypes'\]\['(\w+)'\]/g)) {
    const { rows: [row] } = await client.query('SELECT to_regtype($1) IS NOT NULL AS there', [`invite_sync.${type}`])
    ok(row.there, `the type invite_sync.${type} is there`)
  }
  await client.end()
}

main()
