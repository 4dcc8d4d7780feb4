/** Google Cloud Datastore. */

import type { Mutant } from "./mutant.ts";

export const DATASTORE: readonly Mutant[] = [
  ...([
    [
      "1: Datastore's conditions are enforced",
      'const conflictResolutionStrategy = "FAIL";',
      'const conflictResolutionStrategy = "SERVER_VALUE";',
      "store: a record is replaced only under its latest version",
    ],
    [
      "1: on Datastore every write is a change",
      "nonce: { integerValue: String(Math.floor(Math.random() * Number.MAX_SAFE_INTEGER)) },",
      'nonce: { integerValue: "1" },',
      "store: rewriting the same value makes a new version",
    ],
    [
      "1: on Datastore several records are one transaction",
      'mode: alone ? "NON_TRANSACTIONAL" : "TRANSACTIONAL",',
      'mode: "NON_TRANSACTIONAL",',
      "store: one stale version among several stops the whole commit",
    ],
    [
      "1: on Datastore leases are written by the server's time",
      "if (wrote) assertClock(",
      "if (!wrote) assertClock(",
      "whose clock is an hour wrong",
    ],
    [
      "2: Datastore's commitIfHeld reads the lock in its transaction",
      "if (lock === undefined || versionOf(lock.version) !== version) return undefined;",
      "",
      "robbed just before its transaction",
    ],
    [
      "2: Datastore's commitIfHeld reads in its transaction",
      "readOptions: { transaction } });",
      "readOptions: {} });",
      "a guarded commit of a robbed holder",
    ],
    [
      "7: a Datastore request is not sent twice below us",
      "const init = { method, headers: all, body: stream,",
      "const init = { method, headers: all, body: body as string,",
      "a commit whose outcome is unknown",
    ],
    [
      "7: on Datastore no failure but ABORTED counts as not applied",
      "if (code !== ABORTED || performance.now() - started > ABORTED_MS) throw error;",
      "if (performance.now() - started > ABORTED_MS) throw error;",
      "a commit whose outcome is unknown",
    ],
    [
      "6: an idle watch of Datastore asks once",
      "await bell.sleep(systemClock, idle ? Infinity : pauseMs);",
      "await bell.sleep(systemClock, pauseMs);",
      "a held lock costs nothing",
    ],
    [
      "4: Datastore's reserved names are kept apart",
      'return isReserved(key) || key.startsWith("~") ? `~${key}` : key;',
      "return isReserved(key) ? `~${key}` : key;",
      "identifiers that Datastore reserves",
    ],
    [
      "7: on Datastore a refusal that no other version cures is no conflict",
      "if (entries.every(({ version }, i) => version === changes[i].version)) throw refusal;",
      "",
      "a refusal that is no conflict",
    ],
    [
      "7: on Datastore a silent host is named",
      'return host === undefined ? "Datastore" : `Datastore at ${host}`;',
      'return "Datastore";',
      "a host that is out or silent",
    ],
    [
      "bad input: Datastore's pauses have bounds",
      'assertMs(pollMs, "pollMs", POLL_LEAST_MS, doing);',
      "",
      "bad options are refused, and sent nowhere",
    ],
    [
      "bad input: an emulator is host:port",
      "if (url === undefined || port === 0) {",
      "if (url === undefined) {",
      "bad options are refused, and sent nowhere",
    ],
    [
      "bad input: a high-level Datastore is told what to write",
      'typeof candidate?.createQuery === "function"',
      'typeof candidate?.query === "function"',
      "what is not a client is refused",
    ],
    [
      "7: a missing permission says which role",
      "const hint = code === 7 ?",
      "const hint = code === 8 ?",
      "what the server refuses for good",
    ],
    [
      "the TTL property is a moment",
      "garbageAt: expireInMs === undefined ? undefined : timestamp(now + expireInMs),",
      "garbageAt: { integerValue: String(now + (expireInMs ?? 0)) },",
      "an entity shows people what they want to know",
    ],
  ] as const).map(([law, from, to, filter]) => ({
    law,
    file: "backends/datastore.ts",
    from,
    to,
    test: "tests/datastore_test.ts",
    filter,
  })),
  ...([
    ["an insert makes an entity once", 'if (operation === "insert" && stored) throw', "if (false) throw"],
    [
      "a single-use transaction applies all or nothing",
      "staged.set(text, { entity, version, updateTime,",
      "entities.set(text, { entity, version, updateTime,",
    ],
    [
      "a transaction does not commit over",
      "if (entities.get(text)?.version !== version) {",
      "if (false) {",
    ],
  ] as const).map(([filter, from, to]) => ({
    law: `the test server of Datastore: ${filter}`,
    file: "tests/datastore/server.mjs",
    from,
    to,
    test: "tests/datastore_test.ts",
    filter: `test server: ${filter}`,
  })),
];
