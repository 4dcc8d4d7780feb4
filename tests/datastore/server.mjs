/**
 * A small server that speaks google.datastore.v1 over gRPC and REST, for the faults that an emulator cannot be
 * asked for. Run under Node: a gRPC server under Deno 2.9 dies when a client goes away.
 *
 * It writes lines of JSON: first where it listens, then an answer to each command. Commands:
 * - `{ do: "plan", faults: [...] }`: what happens to the next calls, one fault each, to the first call that it
 *   fits: of its `method`, and with its `id` in the request, if it has any.
 * - `{ do: "plan more", faults: [...] }`: the same, after what is planned.
 * - `{ do: "plan no more", id }`: none of those for `id` any more.
 * - `{ do: "weather", rates: { kind: share }, seed }`: faults by chance from now on.
 * - `{ do: "log" }`: the calls since the last time.
 *
 * Faults: "unavailable before" and "unavailable after" the call is applied, "lost" (applied, never answered),
 * "delay" (`ms` before it is applied), "aborted", "goaway" (applied and answered; the connection is asked to
 * go), "reset" (applied; the connection breaks), "denied", "no index".
 */

import { createServer as createHttp } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import { createRequire } from "node:module";
import process from "node:process";
import { createInterface } from "node:readline";

// What the client itself depends on is at hand.
const client = createRequire(import.meta.resolve("@google-cloud/datastore"));
const gax = createRequire(client.resolve("google-gax"));
const protobuf = gax("protobufjs");
const { fromProto3JSON, toProto3JSON } = gax("proto3-json-serializer");
const protos = createRequire(client.resolve("@google-cloud/datastore-api"))("../../build/protos/protos.json");
const root = protobuf.Root.fromJSON(protos).resolveAll();
const service = root.lookupService("google.datastore.v1.Datastore");

const STATUS = {
  INVALID_ARGUMENT: 3,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  UNAVAILABLE: 14,
};
const HTTP = { 3: 400, 5: 404, 6: 409, 7: 403, 9: 400, 10: 409, 12: 501, 14: 503 };

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
    this.code = STATUS[status];
  }
}

// ---------------------------------------------------------------------------------------------- the store

/** @type {Map<string, { entity: object, version: bigint, createTime: object, updateTime: object }>} */
const entities = new Map();
const transactions = new Map();
let lastVersion = 0n;
let lastTransaction = 0;

/** Versions are moments in microseconds, as in the real one, and never the same twice. */
function nextVersion() {
  const now = BigInt(Math.floor((performance.timeOrigin + performance.now()) * 1000));
  return lastVersion = now > lastVersion ? now : lastVersion + 1n;
}

function timeOf(micros) {
  return { seconds: String(micros / 1_000_000n), nanos: Number(micros % 1_000_000n) * 1000 };
}

function textOf(request, key) {
  const path = key?.path ?? [];
  if (path.length === 0) throw new Refusal("INVALID_ARGUMENT", "the key path is empty");
  for (const { kind = "", name = "", id } of path) {
    for (const [what, text] of [["kind", kind], ...(id === undefined ? [["name", name]] : [])]) {
      const rule = text === ""
        ? "is the empty string"
        : Buffer.byteLength(text) > 1500
        ? "is longer than 1500 bytes"
        : /^__.*__$/s.test(text)
        ? "is reserved"
        : undefined;
      if (rule !== undefined) throw new Refusal("INVALID_ARGUMENT", `the key path ${what} ${rule}`);
    }
  }
  const { databaseId = "", namespaceId = "" } = key.partitionId ?? {};
  return JSON.stringify([
    request.projectId,
    databaseId,
    namespaceId,
    path.map(({ kind, name, id }) => [kind, id === undefined ? name : Number(id)]),
  ]);
}

function normal(request, entity) {
  const partitionId = { ...entity.key.partitionId, projectId: request.projectId };
  return { ...entity, key: { ...entity.key, partitionId } };
}

function transactionOf(bytes) {
  const transaction = transactions.get(String(bytes));
  if (transaction === undefined) throw new Refusal("INVALID_ARGUMENT", "the transaction is unknown or over");
  return transaction;
}

function lookup(request) {
  const { readOptions = {} } = request;
  const transaction = readOptions.transaction && transactionOf(readOptions.transaction);
  const found = [];
  const missing = [];
  for (const key of request.keys ?? []) {
    const text = textOf(request, key);
    const stored = entities.get(text);
    transaction?.reads.set(text, stored?.version);
    if (stored === undefined) missing.push({ entity: { key: normal(request, { key }).key } });
    else found.push({ ...stored, version: String(stored.version) });
  }
  return { found, missing, readTime: timeOf(nextVersion()) };
}

function commit(request) {
  const { mutations = [], mode = "TRANSACTIONAL" } = request;
  const single = mode === "NON_TRANSACTIONAL";
  const transaction = request.transaction && transactionOf(request.transaction);
  if (transaction) transactions.delete(String(request.transaction));
  if (!single && !transaction && request.singleUseTransaction === undefined) {
    throw new Refusal("INVALID_ARGUMENT", "a transactional commit needs a transaction");
  }
  for (const [text, version] of transaction?.reads ?? []) {
    if (entities.get(text)?.version !== version) {
      throw new Refusal("ABORTED", "too much contention on these datastore entities. please try again.");
    }
  }
  const version = nextVersion();
  const touched = new Set();
  const staged = new Map();
  const results = [];
  for (const mutation of mutations) {
    const operation = ["insert", "update", "upsert", "delete"].find((name) => mutation[name] !== undefined);
    const entity = operation === "delete" ? undefined : normal(request, mutation[operation]);
    const text = textOf(request, operation === "delete" ? mutation.delete : entity.key);
    if (single && touched.has(text)) {
      throw new Refusal("INVALID_ARGUMENT", "a non-transactional commit has two mutations of one entity");
    }
    touched.add(text);
    const stored = staged.has(text) ? staged.get(text) : entities.get(text);
    const { baseVersion, conflictResolutionStrategy: strategy } = mutation;
    if (baseVersion === undefined && strategy !== undefined && strategy !== "STRATEGY_UNSPECIFIED") {
      throw new Refusal(
        "INVALID_ARGUMENT",
        "cannot set a conflict resolution strategy if no detection strategy was set",
      );
    }
    if (operation === "insert" && stored) throw new Refusal("ALREADY_EXISTS", "entity already exists");
    if (operation === "update" && !stored) throw new Refusal("NOT_FOUND", "no entity to update");
    const current = String(stored?.version ?? 0);
    // As the Firestore emulator does it: without FAIL the condition means nothing.
    if (baseVersion !== undefined && strategy === "FAIL" && baseVersion !== current) {
      throw new Refusal(
        "FAILED_PRECONDITION",
        `the stored version (${current}) does not match the required base version (${baseVersion})`,
      );
    }
    if (operation === "delete") {
      staged.set(text, undefined);
      results.push({ version: String(version) });
    } else if (stored && same(stored.entity, entity)) {
      results.push({ version: String(stored.version), updateTime: stored.updateTime });
    } else {
      const updateTime = timeOf(version);
      staged.set(text, { entity, version, updateTime, createTime: stored?.createTime ?? updateTime });
      results.push({ version: String(version), updateTime });
    }
  }
  for (const [text, stored] of staged) {
    if (stored === undefined) entities.delete(text);
    else entities.set(text, stored);
  }
  return { mutationResults: results, commitTime: timeOf(version) };
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

function runQuery(request) {
  const { query = {}, partitionId = {} } = request;
  const kind = query.kind?.[0]?.name;
  const bound = query.filter?.propertyFilter?.value?.keyValue;
  if (bound) textOf(request, bound);
  const least = bound?.path.at(-1).name ?? "";
  const from = query.startCursor?.length > 0 ? String(query.startCursor) : undefined;
  const results = [...entities.values()]
    .filter(({ entity: { key } }) =>
      key.path.at(-1).kind === kind &&
      (key.partitionId.namespaceId ?? "") === (partitionId.namespaceId ?? "") &&
      (key.partitionId.databaseId ?? "") === (partitionId.databaseId ?? "") &&
      key.partitionId.projectId === request.projectId
    )
    .map((stored) => ({ stored, name: stored.entity.key.path.at(-1).name ?? "" }))
    .filter(({ name }) => compare(name, least) >= 0 && (from === undefined || compare(name, from) > 0))
    .sort((a, b) => compare(a.name, b.name));
  const limit = query.limit?.value ?? results.length;
  const page = results.slice(0, limit);
  return {
    batch: {
      entityResultType: "FULL",
      entityResults: page.map(({ stored }) => ({ ...stored, version: String(stored.version) })),
      endCursor: Buffer.from(page.at(-1)?.name ?? from ?? ""),
      moreResults: results.length > limit ? "MORE_RESULTS_AFTER_LIMIT" : "NO_MORE_RESULTS",
      readTime: timeOf(nextVersion()),
    },
  };
}

function compare(one, other) {
  return Buffer.compare(Buffer.from(one), Buffer.from(other));
}

const methods = {
  lookup,
  commit,
  runQuery,
  beginTransaction() {
    const id = String(++lastTransaction);
    transactions.set(id, { reads: new Map() });
    return { transaction: Buffer.from(id) };
  },
  rollback({ transaction }) {
    transactionOf(transaction);
    transactions.delete(String(transaction));
    return {};
  },
};

// --------------------------------------------------------------------------------------------- the faults

let plan = [];
let rates = {};
let random = () => 0;
let log = [];

function fault(method, request) {
  const text = JSON.stringify(request);
  const fits = (next) => (next.method ?? method) === method && text.includes(next.id ?? "");
  const at = plan.findIndex(fits);
  if (at >= 0) return plan.splice(at, 1)[0];
  let dice = random();
  for (const [kind, share] of Object.entries(rates)) {
    if ((dice -= share) < 0) return { kind, ms: Math.floor(random() * 300) };
  }
  return {};
}

/** A generator that repeats itself for the same seed. */
function dice(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Answers a call; `undefined` where no answer is to be given. `line` can be asked to go away, or break. */
async function serve(method, request, line) {
  const { kind, ms = 0 } = fault(method, request);
  const mutations = request.mutations?.map((mutation) => Object.keys(mutation).find((name) => name in KINDS));
  const names = [...request.keys ?? [], ...request.mutations?.map(keyOf) ?? []].map(({ path }) =>
    path.at(-1).name
  );
  const entry = { method, kind, mutations, names, code: 0 };
  log.push(entry);
  try {
    if (kind === "delay") await new Promise((resolve) => setTimeout(resolve, ms));
    if (kind === "unavailable before") throw new Refusal("UNAVAILABLE", "out, and nothing was done");
    if (kind === "aborted") throw new Refusal("ABORTED", "too much contention");
    if (kind === "denied") throw new Refusal("PERMISSION_DENIED", "Missing or insufficient permissions.");
    if (kind === "no index") throw new Refusal("FAILED_PRECONDITION", "no matching index found.");
    if (methods[method] === undefined) throw new Refusal("UNIMPLEMENTED", `there is no ${method} here`);
    const answer = methods[method](request);
    if (kind === "unavailable after") throw new Refusal("UNAVAILABLE", "out, after it was applied");
    if (kind === "goaway") line.leave();
    if (kind === "reset") line.cut();
    return kind === "lost" || kind === "reset" ? undefined : answer;
  } catch (error) {
    entry.code = error.code ?? 13;
    throw error;
  }
}

function keyOf({ delete: key, insert, update, upsert }) {
  return key ?? (insert ?? update ?? upsert).key;
}

const KINDS = { insert: 1, update: 1, upsert: 1, delete: 1 };

// ---------------------------------------------------------------------------------------------- the lines

const PLAIN = { longs: String, enums: String, bytes: Buffer };

function typesOf(method) {
  const name = method[0].toUpperCase() + method.slice(1);
  const rpc = service.methods[name];
  if (rpc === undefined) throw new Refusal("UNIMPLEMENTED", `there is no ${method}`);
  return { request: rpc.resolve().resolvedRequestType, response: rpc.resolvedResponseType };
}

async function body(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const http2 = createHttp2();
http2.on("stream", async (stream, headers) => {
  stream.on("error", () => {});
  const { session } = stream;
  const line = { leave: () => session.goaway(0), cut: () => session.destroy() };
  const head = { ":status": 200, "content-type": "application/grpc" };
  const refuse = ({ code = 13, message }) => {
    if (stream.destroyed) return;
    stream.respond({ ...head, "grpc-status": code, "grpc-message": encodeURIComponent(message) }, {
      endStream: true,
    });
  };
  try {
    const name = headers[":path"].split("/").at(-1);
    const method = name[0].toLowerCase() + name.slice(1);
    const types = typesOf(method);
    const bytes = (await body(stream)).subarray(5);
    const answer = await serve(method, types.request.toObject(types.request.decode(bytes), PLAIN), line);
    if (answer === undefined || stream.destroyed) return;
    const message = types.response.encode(types.response.fromObject(answer)).finish();
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, 5);
    stream.respond(head, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": 0 }));
    stream.end(frame);
  } catch (error) {
    refuse(error);
  }
});
http2.on("sessionError", () => {});

const http = createHttp(async (request, response) => {
  const line = {
    leave: () => response.setHeader("connection", "close"),
    cut: () => request.socket.destroy(),
  };
  const send = (status, value) => {
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  };
  try {
    const method = /:(\w+)$/.exec(new URL(request.url, "http://x").pathname)?.[1];
    if (method === undefined) return send(200, {});
    const projectId = /projects\/([^:/]+)/.exec(decodeURIComponent(request.url))[1];
    const types = typesOf(method);
    const message = fromProto3JSON(types.request, JSON.parse(String(await body(request)) || "{}"));
    const asked = { ...types.request.toObject(message, PLAIN), projectId };
    const answer = await serve(method, asked, line);
    if (answer !== undefined) send(200, toProto3JSON(types.response.fromObject(answer)));
  } catch (error) {
    const { code = 13, status = "INTERNAL", message } = error;
    send(HTTP[code] ?? 500, { error: { code: HTTP[code] ?? 500, status, message, details: [] } });
  }
});

function listen(server) {
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server.address().port)));
}

function say(said, more = {}) {
  console.log(JSON.stringify({ ...more, said, at: performance.timeOrigin + performance.now() }));
}

const [grpcPort, restPort] = [await listen(http2), await listen(http)];
say("started", { grpc: `127.0.0.1:${grpcPort}`, rest: `127.0.0.1:${restPort}` });
for await (const text of createInterface({ input: process.stdin })) {
  const command = JSON.parse(text);
  if (command.do === "plan") plan = command.faults;
  if (command.do === "plan more") plan.push(...command.faults);
  if (command.do === "plan no more") plan = plan.filter(({ id }) => id !== command.id);
  if (command.do === "weather") {
    rates = command.rates;
    random = dice(command.seed ?? 1);
  }
  if (command.do === "log") {
    say("log", { calls: log });
    log = [];
  } else {
    say("done");
  }
}
process.exit();
