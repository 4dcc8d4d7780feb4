/** The rules of google.datastore.v1 on which the backend rests, as every server here must keep them. */

import { setTimeout } from "node:timers/promises";
import { datastoreClient } from "@holdfast/lock/backends/datastore";
import { assert, assertEquals } from "@std/assert";
import type { Server } from "../support/datastore_emulators.ts";

// deno-lint-ignore no-explicit-any
type Anything = any;

const projectId = "holdfast-rules";
const FAIL = { conflictResolutionStrategy: "FAIL" };

/** A server as the rules ask it. */
class Asked {
  readonly #client: Anything;

  constructor(client: unknown) {
    this.#client = client;
  }

  async call(method: string, request: object): Promise<Anything> {
    const options = { timeout: Infinity, retry: { retryCodes: [] } };
    return (await this.#client[method]({ projectId, ...request }, options))[0];
  }

  commit(...mutations: object[]): Promise<Anything> {
    return this.call("commit", { mode: "NON_TRANSACTIONAL", mutations });
  }

  atomic(...mutations: object[]): Promise<Anything> {
    return this.call("commit", {
      mode: "TRANSACTIONAL",
      singleUseTransaction: { readWrite: {} },
      mutations,
    });
  }

  /** Writes one entity; the version that it has now. */
  async put(mutation: object): Promise<string> {
    return (await this.commit(mutation)).mutationResults[0].version;
  }

  async look(...names: string[]): Promise<(string | undefined)[]> {
    const { found } = await this.call("lookup", { keys: names.map(key) });
    return names.map((name) =>
      found.find((result: Anything) => result.entity.key.path[0].name === name)?.entity.properties.text
        .stringValue
    );
  }
}

function key(name: string) {
  return { partitionId: { projectId }, path: [{ kind: "Rule", name }] };
}

function entity(name: string, text: string) {
  return { key: key(name), properties: { text: { stringValue: text } } };
}

/** With which code a call fails. */
async function codeOf(call: Promise<unknown>): Promise<number> {
  return await call.then(() => 0, (error) => error.code);
}

const RULES: Record<string, (server: Asked, name: string) => Promise<void>> = {
  "an insert makes an entity once": async (server, name) => {
    await server.put({ insert: entity(name, "one") });
    assertEquals(await codeOf(server.commit({ insert: entity(name, "two") })), 6);
    assertEquals(await server.look(name), ["one"]);
  },
  "an insert takes no strategy": async (server, name) => {
    assertEquals(await codeOf(server.commit({ insert: entity(name, "one"), ...FAIL })), 3);
  },
  "with FAIL, an upsert applies under the latest version only": async (server, name) => {
    const baseVersion = await server.put({ insert: entity(name, "one") });
    await server.put({ upsert: entity(name, "two"), baseVersion, ...FAIL });
    assertEquals(await codeOf(server.commit({ upsert: entity(name, "three"), baseVersion, ...FAIL })), 9);
    assertEquals(await server.look(name), ["two"]);
  },
  "with FAIL, a delete applies under the latest version, and once": async (server, name) => {
    const old = await server.put({ insert: entity(name, "one") });
    const baseVersion = await server.put({ upsert: entity(name, "two") });
    assertEquals(await codeOf(server.commit({ delete: key(name), baseVersion: old, ...FAIL })), 9);
    await server.commit({ delete: key(name), baseVersion, ...FAIL });
    assertEquals(await codeOf(server.commit({ delete: key(name), baseVersion, ...FAIL })), 9);
    assertEquals(await codeOf(server.commit({ upsert: entity(name, "x"), baseVersion, ...FAIL })), 9);
    assertEquals(await server.look(name), [undefined]);
  },
  "the base version 0 stands for no entity": async (server, name) => {
    await server.commit({ delete: key(name), baseVersion: "0", ...FAIL });
    await server.put({ insert: entity(name, "one") });
    assertEquals(await codeOf(server.commit({ delete: key(name), baseVersion: "0", ...FAIL })), 9);
  },
  "versions rise over update, delete and insert": async (server, name) => {
    const versions: bigint[] = [];
    const note = async (mutation: object) => versions.push(BigInt(await server.put(mutation)));
    await note({ insert: entity(name, "one") });
    await note({ upsert: entity(name, "two") });
    await note({ delete: key(name) });
    await note({ insert: entity(name, "one") });
    assert(versions.every((version, i) => i === 0 || version > versions[i - 1]), versions.join());
  },
  "an entity that is written as it was keeps its version": async (server, name) => {
    const version = await server.put({ insert: entity(name, "one") });
    assertEquals(await server.put({ upsert: entity(name, "one") }), version);
    assert(BigInt(await server.put({ upsert: entity(name, "two") })) > BigInt(version));
  },
  "one commit takes one mutation of an entity": async (server, name) => {
    const twice = server.commit({ upsert: entity(name, "one") }, { upsert: entity(name, "two") });
    assertEquals(await codeOf(twice), 3);
  },
  "a single-use transaction applies all or nothing, under one version": async (server, name) => {
    const baseVersion = await server.put({ insert: entity(name, "one") });
    const { mutationResults: [first, second] } = await server.atomic(
      { upsert: entity(name, "two"), baseVersion, ...FAIL },
      { insert: entity(`${name}+`, "new") },
    );
    assertEquals(first.version, second.version);
    const stale = server.atomic({ insert: entity(`${name}-`, "new") }, {
      upsert: entity(name, "three"),
      baseVersion,
      ...FAIL,
    });
    assertEquals(await codeOf(stale), 9);
    assertEquals(await server.look(name, `${name}+`, `${name}-`), ["two", "new", undefined]);
  },
  "a transaction does not commit over what another has changed since it read": async (server, name) => {
    await server.put({ insert: entity(name, "one") });
    const { transaction } = await server.call("beginTransaction", { transactionOptions: { readWrite: {} } });
    await server.call("lookup", { keys: [key(name)], readOptions: { transaction } });
    // Refused or held back until the transaction is over: either is as good.
    const foreign = server.commit({ upsert: entity(name, "foreign") });
    const held = new AbortController();
    const wait = setTimeout(300, "waited", { signal: held.signal }).catch(() => "");
    const first = await Promise.race([foreign.then(() => "foreign"), wait]);
    held.abort();
    const code = await codeOf(server.call("commit", {
      mode: "TRANSACTIONAL",
      transaction,
      mutations: [{ insert: entity(`${name}+`, "guarded") }],
    }));
    await foreign;
    assertEquals(code, first === "foreign" ? 10 : 0);
    assertEquals(await server.look(`${name}+`), [code === 0 ? "guarded" : undefined]);
  },
  "a transaction is over after a commit or a rollback": async (server, name) => {
    const begin = async () =>
      (await server.call("beginTransaction", { transactionOptions: { readWrite: {} } })).transaction;
    const mutations = [{ upsert: entity(name, "one") }];
    const rolled = await begin();
    await server.call("rollback", { transaction: rolled });
    const late = server.call("commit", { mode: "TRANSACTIONAL", transaction: rolled, mutations });
    assert(await codeOf(late) !== 0);
    assertEquals(await server.look(name), [undefined]);
  },
  "reserved and endless names are refused": async (server) => {
    for (const name of ["__x__", "x".repeat(1501)]) {
      assertEquals(await codeOf(server.commit({ upsert: entity(name, "one") })), 3, name);
    }
    await server.commit({ upsert: entity("é".repeat(750), "one") });
  },
  "a listing is ordered and begins where it is asked to": async (server, name) => {
    for (const end of ["b", "a", "c"]) await server.put({ insert: entity(`${name}${end}`, end) });
    const query = (startCursor?: unknown) => ({
      kind: [{ name: "Rule" }],
      filter: {
        propertyFilter: {
          property: { name: "__key__" },
          op: "GREATER_THAN_OR_EQUAL",
          value: { keyValue: key(`${name}b`) },
        },
      },
      order: [{ property: { name: "__key__" } }],
      limit: { value: 1 },
      startCursor,
    });
    const partitionId = { projectId };
    const { batch } = await server.call("runQuery", { partitionId, query: query() });
    assertEquals(batch.entityResults[0].entity.key.path[0].name, `${name}b`);
    const next = await server.call("runQuery", { partitionId, query: query(batch.endCursor) });
    assertEquals(next.batch.entityResults[0].entity.key.path[0].name, `${name}c`);
  },
};

/** Registers the rules for every server. */
export function ruleTests(servers: readonly Server[]): void {
  for (const server of servers) {
    for (const [title, rule] of Object.entries(RULES)) {
      // A call over REST leaves its connection open for the next one.
      Deno.test({ name: `${server.name}: ${title}`, sanitizeResources: false }, async () => {
        const client = await datastoreClient({ projectId, emulatorHost: server.host });
        await rule(new Asked(client), crypto.randomUUID());
        await client.close();
      });
    }
  }
}
