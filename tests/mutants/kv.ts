/** Deno KV. */

import type { Mutant } from "./mutant.ts";

export const KV: readonly Mutant[] = [
  {
    law: "2: KV's commitIfHeld checks the record's version",
    file: "backends/kv.ts",
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
    ],
    [
      "2: a guarded commit that was applied is not told of as refused",
      "if (versionstamp !== null) return { ok: true, versionstamp };",
      "",
      "a guarded commit that is sent twice",
    ],
    [
      "7: over KV Connect, a refusal that may be of a second sending is an unknown outcome",
      "if (result.ok || !late || !this.#repeats) return result;",
      "return result;",
      "a release that is sent twice has released",
    ],
    [
      "7: a watch of Deno KV that was lost is opened again",
      "for (let pauseMs = REOPEN_MS.least; !stopped; pauseMs",
      "for (let pauseMs = REOPEN_MS.least; !stopped && pauseMs < 101; pauseMs",
      "@deno/kv: a theft is told by push",
    ],
    [
      "6: a broken watch of npm:@deno/kv does not end the process when the database is closed",
      "if (broken) watches.delete(id);",
      "if (broken) broken = true;",
      "@deno/kv: a theft is told by push",
    ],
    [
      "6: a watch of npm:@deno/kv that breaks does not end the process",
      "remote ? { raw: true } : undefined",
      "undefined",
      "@deno/kv: a theft is told by push",
    ],
    [
      "7: a broken connection to a Deno KV server may pass",
      "cause instanceof TypeError && cause.cause === undefined ||",
      "cause instanceof TypeError ||",
      "@deno/kv: a lock survives the server's restart",
    ],
  ] as const).map(([law, from, to, filter]) => ({
    law,
    file: "backends/kv.ts",
    from,
    to,
    test: "tests/kv_connect_test.ts",
    filter,
  })),
  ...([
    ["expiry is passed on", "{ expireIn: expireInMs }", "{}"],
    ["a busy database is asked again", "if (!busy || performance", "if (busy || performance"],
    ["values are bytes", "encoder.encode(value), {", "value, {"],
    ["the prefix counts", "this.#prefix = prefix;", 'this.#prefix = ["holdfast"];'],
    ["holders do not poll", "const pollMs = idle ? Infinity : ", "const pollMs = "],
    ["pushed news are heard", "version !== last?.version && bell.ring()", "false"],
    ["a changed record is no refusal", "if (now.version === proof.version) return result;", "return result;"],
    ["a build may be async", "await build(draftOf(atomic));", "await build(atomic);"],
    [
      "a closed database is no outage",
      'database is closed", { cause });',
      'database is closed", { cause, transient: true });',
    ],
  ] as const).map(([law, from, to]) => ({
    law: `kv: ${law}`,
    file: "backends/kv.ts",
    from,
    to,
    test: "tests/kv_test.ts",
  })),
];
