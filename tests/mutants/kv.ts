/** Deno KV. */

import type { Mutant } from "./mutant.ts";

export const KV: readonly Mutant[] = [
  {
    law: "2: KV's commitIfHeld checks the record's version",
    file: "backends/kv/guarded.ts",
    from: "atomic.check({ key: backend.keyOf(proof.key), versionstamp: proof.version });",
    to: "",
    test: "tests/processes_test.ts",
    filter: "refuses the write of a robbed holder",
  },
  ...([
    [
      "2: over KV Connect, a guarded commit that is sent twice is applied once",
      "atomic.check({ key: receipt, versionstamp: null });",
      "",
      "a guarded commit that is sent twice",
      "guarded",
    ],
    [
      "2: a guarded commit that was applied is not told of as refused",
      "return versionstamp === null ? result : { ok: true, versionstamp };",
      "return result;",
      "a guarded commit that is sent twice",
      "guarded",
    ],
    [
      "7: over KV Connect, a refusal that may be of a second sending is an unknown outcome",
      "if (result.ok || !late || !this.#repeats) return result;",
      "return result;",
      "a release that is sent twice has released",
      "store",
    ],
    [
      "7: a watch of Deno KV that was lost is opened again",
      "await bell.sleep(systemClock, backoff.pauseMs());",
      "await bell.sleep(systemClock);",
      "@deno/kv: a theft is told by push",
      "watcher",
    ],
    [
      "6: a broken watch of npm:@deno/kv does not end the process when the database is closed",
      "if (broken) watches.delete(id);",
      "if (broken) broken = true;",
      "@deno/kv: a theft is told by push",
      "watcher",
    ],
    [
      "6: a watch of npm:@deno/kv that breaks does not end the process",
      "remote ? { raw: true } : undefined",
      "undefined",
      "@deno/kv: a theft is told by push",
      "watcher",
    ],
    [
      "7: a broken connection to a Deno KV server may pass",
      "error instanceof TypeError && error.cause === undefined ||",
      "error instanceof TypeError ||",
      "@deno/kv: a lock survives the server's restart",
      "failures",
    ],
  ] as const).map(([law, from, to, filter, room]) => ({
    law,
    file: `backends/kv/${room}.ts`,
    from,
    to,
    test: "tests/kv_connect_test.ts",
    filter,
  })),
  ...([
    ["expiry is passed on", "{ expireIn: expireInMs }", "{}", "kv/store"],
    ["a busy database is asked again", "if (!busy || performance", "if (busy || performance", "kv/failures"],
    ["values are bytes", "encoder.encode(value), {", "value, {", "kv/store"],
    ["the prefix counts", "this.#prefix = prefix;", 'this.#prefix = ["holdfast"];', "kv/store"],
    ["holders do not poll", "const sleepMs = idle ? Infinity : ", "const sleepMs = ", "polling"],
    ["pushed news are heard", "version !== seen?.version && bell.ring()", "false", "kv/watcher"],
    [
      "a changed record is no refusal",
      "if (now.version === proof.version) return result;",
      "return result;",
      "kv",
    ],
    ["a build may be async", "await build(draftOf(atomic));", "await build(atomic);", "kv/guarded"],
    [
      "a closed database is no outage",
      'database is closed", { cause });',
      'database is closed", { cause, transient: true });',
      "kv/failures",
    ],
  ] as const).map(([law, from, to, room]) => ({
    law: `kv: ${law}`,
    file: `backends/${room}.ts`,
    from,
    to,
    test: "tests/kv_test.ts",
  })),
];
