// Breaks the code on purpose, one line at a time, and shows which test notices: a test that cannot fail is a
// defect. `deno task mutants` prints the table; it fails if a mutant survives.

interface Mutant {
  readonly law: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** Which tests must notice: a file, and a filter of names. */
  readonly test: string;
  readonly filter?: string;
}

const SIMULATION = { test: "tests/simulation_test.ts" };
const CONFORMANCE = { test: "tests/conformance_test.ts" };
const ADMIN = { test: "tests/admin_test.ts" };

/** Every line that is broken, and who must notice. */
export const MUTANTS: readonly Mutant[] = [
  {
    law: "1: a claim respects a running lease",
    file: "core/record.ts",
    from: "const watched = holder.leaseMs + Math.max(5, holder.leaseMs / 100);",
    to: "const watched = holder.leaseMs / 2;",
    ...SIMULATION,
  },
  {
    law: "1: clocks may differ by skewMs",
    file: "core/record.ts",
    from: "holder.expiresAt + view.skewMs - view.now,",
    to: "holder.expiresAt - view.now,",
    ...SIMULATION,
  },
  {
    law: "1: the lease is counted from before the write was sent",
    file: "core/acquire.ts",
    from: "const hold = new Hold(queue, acquisition, result.sight, fence, sent, now);",
    to: "const hold = new Hold(queue, acquisition, result.sight, fence, now, now);",
    ...SIMULATION,
  },
  {
    law: "1: a lost hold is never extended",
    file: "core/hold.ts",
    from: 'if (this.#state !== "held") return;\n    this.#miss(',
    to: 'if (reason === "expired") return;\n    this.#miss(',
    ...SIMULATION,
  },
  {
    law: "1: sightings are kept by grant",
    file: "core/local_queue.ts",
    from: "const renewedSince = seen?.renewals === renewals ? seen.renewedSince : now;",
    to: "const renewedSince = seen?.renewedSince ?? now;",
    ...SIMULATION,
  },
  {
    law: "2: commitIfHeld proves the hold",
    file: "core/hold.ts",
    from: "if (sight.record.holders.some(({ token }) => token === this.token)) return sight;\n    this.lose",
    to: "if (this.held) return sight;\n    this.lose",
    ...SIMULATION,
  },
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
  {
    law: "2: a loss found by the renewal is told",
    file: "core/hold.ts",
    from: "this.lose(lossOf(sight.record, this.token));\n    return undefined;",
    to: "return undefined;",
    ...CONFORMANCE,
  },
  {
    law: "3: the fence is the granting version",
    file: "core/acquire.ts",
    from: 'decision.kind === "held" ? decision.holder.fence ?? version : version;',
    to: "version;",
    ...SIMULATION,
  },
  {
    law: "3: versions rise across deletion",
    file: "backends/memory.ts",
    from: 'const version = String(++this.#commits).padStart(16, "0");',
    to: 'const version = String(Number(entries[0].version ?? 0) + 1).padStart(16, "0");',
    ...CONFORMANCE,
  },
  {
    law: "4: a release is owner-checked",
    file: "core/record.ts",
    from:
      "const others = holders.filter((holder) => holder.token !== token);\n  if (others.length === holders.length) return null;\n  const evicted",
    to: "const others: Holder[] = [];\n  const evicted",
    ...SIMULATION,
  },
  {
    law: "4: clearing away takes out only our own",
    file: "core/record.ts",
    from: "const others = holders.filter((holder) => holder.token !== gone.token);",
    to: "const others = gone.token === undefined ? holders : [];",
    ...SIMULATION,
  },
  {
    law: "4: a release is not believed without proof",
    file: "core/hold.ts",
    from: 'if (unsure && reason === "expired") {',
    to: "if (unsure) {",
    ...SIMULATION,
  },
  {
    law: "5: the k-th in line waits k graces",
    file: "core/record.ts",
    from: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    to: "const turnInMs = 0;",
    ...SIMULATION,
  },
  {
    law: "5: a dead first in line does not block",
    file: "core/record.ts",
    from: "const turnInMs = ahead === 0 ? 0 : ahead * view.graceMs - freeMs;",
    to: "const turnInMs = ahead === 0 ? 0 : Infinity;",
    ...SIMULATION,
  },
  {
    law: "5: first come, first served within a process",
    file: "core/local_queue.ts",
    from: "const [first] = this.#waiting;\n    return first;",
    to: "return [...this.#waiting].at(-1);",
    ...SIMULATION,
  },
  {
    law: "5: processes take turns",
    file: "core/record.ts",
    from: "if (queue.every((waiter) => waiter.seat === heir.seat)) {",
    to: "if (heir !== undefined) {",
    ...CONFORMANCE,
  },
  {
    law: "6: a cancelled waiter leaves the line",
    file: "core/acquire.ts",
    from: "if (!acquisition.granted) await acquisition.leaveNothing();",
    to: "",
    ...SIMULATION,
  },
  {
    law: "6: a cancelled waiter ends its watch",
    file: "core/acquire.ts",
    from: "news?.close();",
    to: "",
    ...SIMULATION,
  },
  {
    law: "6: a settled acquisition stops its timer",
    file: "core/acquisition.ts",
    from: "this.#stopTimer?.();",
    to: "",
    ...CONFORMANCE,
  },
  {
    law: "6: a release ends the hold's timer",
    file: "core/hold.ts",
    from: "this.#stopTimer?.();\n    this.#watching?.abort();",
    to: "this.#watching?.abort();",
    ...CONFORMANCE,
  },
  {
    law: "7: a store's failure is not a taken lock",
    file: "core/acquisition.ts",
    from: "if (!(error instanceof LockBackendError && error.transient)) throw error;",
    to: "if (!(error instanceof LockBackendError && error.transient)) return this.refuse();",
    test: "tests/input_test.ts",
  },
  {
    law: "7: failures carry the identifier",
    file: "core/errors.ts",
    from: "    identifier,\n    cause,\n    transient",
    to: "    cause,\n    transient",
    test: "tests/input_test.ts",
  },
  {
    law: "alive: a waiting program stays alive",
    file: "core/hold.ts",
    from: "() => this.#tick(), !this.queue.wanted);",
    to: "() => this.#tick(), true);",
    test: "tests/programs_test.ts",
  },
  {
    law: "alive: a forgotten lock keeps no program alive",
    file: "core/hold.ts",
    from: "#observed = false;",
    to: "#observed = true;",
    test: "tests/programs_test.ts",
  },
  {
    law: "alive: a waiter that gave up keeps nothing alive",
    file: "core/local_queue.ts",
    from: "if (this.#thieves.delete(acquisition)) this.#armStealTimer();",
    to: "this.#thieves.delete(acquisition);",
    test: "tests/programs_test.ts",
  },
  {
    law: "7: a cancellation is not a refusal",
    file: "core/lock.ts",
    from: "error instanceof LockAcquisitionError && !(signal?.aborted && error === signal.reason)",
    to: "error instanceof LockAcquisitionError",
    test: "tests/input_test.ts",
  },
  {
    law: "7: silence is not a taken lock",
    file: "core/local_queue.ts",
    from: "if (hold !== undefined && hold.ageMs",
    to: "if (acquisition.stealAfterMs === undefined || hold !== undefined && hold.ageMs",
    test: "tests/input_test.ts",
  },
  {
    law: "7: silence is not a taken lock, at the deadline either",
    file: "core/acquisition.ts",
    from: "const silent = asking > 0 && answeredMs < this.#startedMs;",
    to: "const silent = false;",
    test: "tests/input_test.ts",
  },
  {
    law: "7: a database that cannot be opened fails by name",
    file: "core/lock.ts",
    from: 'throw error instanceof LockBackendError ? backendError(identifier, "acquire", error) : error;',
    to: "throw error;",
    test: "tests/programs_test.ts",
  },
  {
    law: "6: one signal carries one listener",
    file: "core/abort.ts",
    from: "const crowd = crowds.get(signal) ?? gather(signal);",
    to: "const crowd = gather(signal);",
    test: "tests/input_test.ts",
  },
  {
    law: "4: a forced release by fencing token leaves others alone",
    file: "core/operate.ts",
    from: "fencingToken === undefined || fence === fencingToken",
    to: "true",
    ...CONFORMANCE,
    filter: "operator",
  },
  {
    law: "7: a forced release that was refused is none",
    file: "core/operate.ts",
    from: "if (!(await peer.replace(sight, next, LIMIT_MS)).ok) continue;",
    to: "",
    ...CONFORMANCE,
    filter: "operator",
  },
  {
    law: "7: a hold that was lost is not told of as released",
    file: "core/hold.ts",
    from: "if (this.lost === undefined) publish(",
    to: "publish(",
    test: "tests/events_test.ts",
  },
  {
    law: "7: a renewal is told of",
    file: "core/hold.ts",
    from: 'publish("holdfast:renewed", () =>',
    to: '((..._: unknown[]) => {})("holdfast:renewed", () =>',
    test: "tests/events_test.ts",
  },
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
    test: law === "a closed database is no outage" ? "tests/input_test.ts" : "tests/kv_test.ts",
  })),
  {
    law: "Redis: versions never fall behind the bucket's counter",
    file: "backends/redis/scripts.ts",
    from: "if last and last + 1 > now + 0 then",
    to: "if false then",
    test: "tests/redis_faults_test.ts",
    filter: "clock steps back",
  },
  {
    law: "Redis: a commit by a clock that is ahead is refused",
    file: "backends/redis/scripts.ts",
    from: "~= seen or at * 1000 > now + ${TOLERANCE_MS * 1000} then",
    to: "~= seen then",
    test: "tests/redis_faults_test.ts",
    filter: "clock steps back",
  },
  {
    law: "Redis: a record is replaced only under its version",
    file: "backends/redis/scripts.ts",
    from: "if not found or string.sub(found, 1, ${DIGITS}) ~= seen or at",
    to: "if not found or at",
    test: "tests/redis_test.ts",
    filter: "ioredis 5: store",
  },
  {
    law: "Redis: a record is made only where there is none",
    file: "backends/redis/scripts.ts",
    from: "done = call('SET', key, record, 'NX', 'PX', expire)",
    to: "call('SET', key, record, 'PX', expire)",
    test: "tests/redis_test.ts",
    filter: "ioredis 5: hold",
  },
  {
    law: "Redis: a record is deleted only under its version",
    file: "backends/redis/scripts.ts",
    from: "if found and string.sub(found, 1, ${DIGITS}) == seen then",
    to: "if found then",
    test: "tests/redis_test.ts",
    filter: "ioredis 5: store",
  },
  {
    law: "Redis: several records are replaced only under their versions",
    file: "backends/redis/scripts.ts",
    from: "if (record and record:sub(1, ${DIGITS}) or '') ~= ARGV[3 * i - 1] then fits = false end",
    to: "",
    test: "tests/redis_test.ts",
    filter: "ioredis 5: store",
  },
  {
    law: "Redis: scripts are loaded again",
    file: "backends/redis/outbox.ts",
    from: "if (!unknown) throw this.#failure(error);",
    to: "throw this.#failure(error);",
    test: "tests/redis_faults_test.ts",
    filter: "scripts are flushed",
  },
  {
    law: "Redis: lost subscriptions are made again",
    file: "backends/redis/feed.ts",
    from: "    void this.#subscribe();\n  }\n\n  #sweepLater",
    to: "  }\n\n  #sweepLater",
    test: "tests/redis_faults_test.ts",
    filter: "only the subscriptions",
  },
  {
    law: "Redis: databases do not hear each other",
    file: "backends/redis/store.ts",
    from: 'this.port.database === 0 ? "" : `@${this.port.database}`',
    to: '""',
    test: "tests/redis_faults_test.ts",
    filter: "two databases",
  },
  {
    law: "Redis: commitIfHeld checks the version",
    file: "backends/redis/scripts.ts",
    from: "if not record or string.sub(record, 1, ${DIGITS}) ~= ARGV[1] then return false end",
    to: "",
    test: "tests/redis_faults_test.ts",
    filter: "commitIfHeld",
  },
  {
    law: "Redis: a repeated commit is not taken for a lost one",
    file: "backends/redis/store.ts",
    from: "if (breaks !== this.port.breaks) {",
    to: "if (false as boolean) {",
    test: "tests/redis_faults_test.ts",
    filter: "answer is lost",
  },
  {
    law: "Redis: a full server lets go",
    file: "backends/redis/scripts.ts",
    from: "    call('DEL', key)\n    call('PUBLISH', key .. '@DB', '')",
    to: "    call('SET', key, '')\n    call('DEL', key)",
    test: "tests/redis_faults_test.ts",
    filter: "that is full",
  },
  {
    law: "Redis: an own clock that is behind grants nothing",
    file: "backends/redis/store.ts",
    from: "if (behindMs <= TOLERANCE_MS || changes",
    to: "if (behindMs <= Infinity || changes",
    test: "tests/redis_faults_test.ts",
    filter: "clock is behind",
  },
  {
    law: "Redis: the key of another type stays",
    file: "backends/redis/scripts.ts",
    from: "if not done then return {now, call('GET', key)} end",
    to: "if not done then call('SET', key, record) end",
    test: "tests/redis_faults_test.ts",
    filter: "another type",
  },
  {
    law: "Redis: what goes together fails apart",
    file: "backends/redis/scripts.ts",
    from: "done, reply = pcall(put, KEYS[key], KEYS[key + 1], ''",
    to: "done, reply = true, put(KEYS[key], KEYS[key + 1], ''",
    test: "tests/redis_faults_test.ts",
    filter: "each has its own outcome",
  },
  {
    law: "Redis: what fails together is told",
    file: "backends/redis/outbox.ts",
    from: "if (failed) errands[i].fail(",
    to: "if (false as boolean) errands[i].fail(",
    test: "tests/redis_faults_test.ts",
    filter: "each has its own outcome",
  },
  {
    law: "Redis: commits of one turn go together",
    file: "backends/redis/outbox.ts",
    from: "if (this.#due === 0 || !this.#together)",
    to: "if (this.#due >= 0 || !this.#together)",
    test: "tests/redis_faults_test.ts",
    filter: "each has its own outcome",
  },
  {
    law: "Redis: an answer that no script gives is refused",
    file: "backends/redis/store.ts",
    from: "if (ANSWER.test(answer)) return",
    to: "if (answer !== ANSWER.source) return",
    test: "tests/redis_faults_test.ts",
    filter: "midst of a MULTI",
  },
  {
    law: "Redis: numbers may come as strings",
    file: "backends/redis/scripts.ts",
    from: "return '${DELETED}'",
    to: "return 1",
    test: "tests/redis_faults_test.ts",
    filter: "numbers as strings",
  },
  {
    law: "Redis: commands are counted before they run",
    file: "backends/redis.ts",
    from: "if (long === undefined) return;",
    to: "if (long !== null) return;",
    test: "tests/redis_faults_test.ts",
    filter: "no script can hand on",
  },
  {
    law: "Redis: a subscription may fail while it opens",
    file: "backends/redis/feed.ts",
    from: "if (known.subscriber !== undefined && known.subscriber === this.#subscriber) this.#lose();",
    to: "if (subscriber === this.#subscriber) this.#lose();",
    test: "tests/redis_input_test.ts",
    filter: "says so again later",
  },
  {
    law: "Redis: a cluster at one address is served",
    file: "backends/redis/outbox.ts",
    from: "if (!isApart(error.cause)) return",
    to: "if (error !== undefined) return",
    test: "tests/redis_faults_test.ts",
    filter: "cluster at one address",
  },
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
  {
    law: "alive: a hold's questions may take a second, however short the lease",
    file: "core/peer.ts",
    from: "export const ANSWER_MS = 1000;",
    to: "export const ANSWER_MS = 1;",
    test: "tests/input_test.ts",
    filter: "answers late, but within the lease",
  },
  {
    law: "1: a renewal that hangs keeps nobody from being told",
    file: "core/hold.ts",
    from: "let ms = this.#leftMs(now);",
    to: "if (this.#renewing) return;\n    let ms = this.#leftMs(now);",
    test: "tests/input_test.ts",
    filter: "a renewal that hangs",
  },
  {
    law: "5: where clocks mean nothing, who never waits remembers what it saw",
    file: "core/peer.ts",
    from: "this.#remembered.set(key, sightings);",
    to: "",
    ...CONFORMANCE,
    filter: "memory: hold: who never waits takes over",
  },
  {
    law: "5: a watched lapse counts as free time",
    file: "core/record.ts",
    from: "if (holders.length > 0) return -Math.max(...holders.map((holder) => lapsesInMs(holder, view)));",
    to: "if (holders.length > 0) return view.now - holders[0].expiresAt - view.skewMs;",
    ...CONFORMANCE,
    filter: "a dead holder with a dead first in line",
  },
  {
    law: "4: a cleanup respects a running lease",
    file: "core/record.ts",
    from: "lapsesInMs(holder, view) > 0);\n  const overstayed",
    to: "lapsesInMs(holder, view) > 400);\n  const overstayed",
    ...SIMULATION,
  },
  {
    law: "4: a cleanup changes only what it has judged",
    file: "core/cleanup.ts",
    from: "const answer = await peer.replace(sight, step.kind",
    to: "const answer = await peer.replace(await peer.read(key, LIMIT_MS), step.kind",
    ...CONFORMANCE,
    filter: "just after it was listed",
  },
  {
    law: "2: whom a cleanup evicts is told",
    file: "core/record.ts",
    from: 'return { kind: "evict", record: evict(record, which, "forced", view.now, view.skewMs), fences };',
    to: 'return { kind: "evict", record: null, fences };',
    ...CONFORMANCE,
    filter: "cleanup:",
  },
  {
    law: "5: a cleanup leaves a line in use alone",
    file: "core/record.ts",
    from: "queue.length === 0 ? 0 : stale - freeForMs(record, holders, view),",
    to: "0,",
    ...CONFORMANCE,
    filter: "cleanup:",
  },
  {
    law: "2: a cleanup leaves a note that may be unread",
    file: "core/record.ts",
    from: "...notes(record, view.now).map(({ until }) => until - view.now),\n  );",
    to: ");",
    ...CONFORMANCE,
    filter: "cleanup:",
  },
  {
    law: "4: a lapse is proven by one version that stands",
    file: "core/cleanup.ts",
    from: "if (unchanged && provable)",
    to: "if (provable)",
    ...CONFORMANCE,
    filter: "cleanup:",
  },
  {
    law: "a scheduled cleanup runs once, not once an instance",
    file: "cron.ts",
    from: "const KEPT_MS = 10_000;",
    to: "const KEPT_MS = 0;",
    test: "tests/cron_test.ts",
    filter: "of two processes one cleans up",
  },
  {
    law: "a cleanup by request refuses whatever is not true",
    file: "handlers/authorize.ts",
    from: "if (verdict === true)",
    to: "if (verdict)",
    test: "tests/cron_test.ts",
    filter: "only true lets a request pass",
  },
  {
    law: "a cleanup by request believes App Engine's header on App Engine only",
    file: "handlers/authorize.ts",
    from: "if (!onAppEngine()) {",
    to: "if (process.env.NEVER_SET) {",
    test: "tests/cron_test.ts",
    filter: "counts on App Engine only",
  },
  {
    law: "a hold's span is beneath who asked for it",
    file: "otel.ts",
    from: 'const span = start("holdfast hold", event, fence, parent);',
    to: 'const span = start("holdfast hold", event, fence, context?.active() as Context);',
    test: "tests/otel_test.ts",
  },
  {
    law: "identifiers can be kept out of telemetry",
    file: "otel.ts",
    from: "span?.setStatus({ code: 2, message: inSpans ? message : undefined });",
    to: "span?.setStatus({ code: 2, message });",
    test: "tests/otel_test.ts",
  },
  {
    law: "admin: nobody comes in unless authorize says true",
    file: "handlers/authorize.ts",
    from: "if (verdict === true) return undefined;",
    to: "if (verdict) return undefined;",
    ...ADMIN,
    filter: "nobody comes in",
  },
  {
    law: "admin: text of others is escaped",
    file: "admin/html.ts",
    from: "return visible(String(part)).replace(/[&<>\"']/g, (char) => SAFE[char]);",
    to: "return visible(String(part));",
    ...ADMIN,
    filter: "shown as text",
  },
  {
    law: "admin: control characters are shown",
    file: "admin/html.ts",
    from: "return visible(String(part)).replace(",
    to: "return String(part).replace(",
    ...ADMIN,
    filter: "shown as text",
  },
  {
    law: "admin: a form from another site is refused",
    file: "admin/requests.ts",
    from: 'if (site !== "same-origin") return "it comes from another site";',
    to: "",
    ...ADMIN,
    filter: "is not of this page",
  },
  {
    law: "admin: an old browser's form from another origin is refused",
    file: "admin/requests.ts",
    from: "new URL(origin).host !== host",
    to: "false",
    ...ADMIN,
    filter: "is not of this page",
  },
  {
    law: "admin: a form needs the token of the cookie",
    file: "admin/requests.ts",
    from: "sent[0] === tokenOf(request)",
    to: "TOKEN.test(sent[0])",
    ...ADMIN,
    filter: "is not of this page",
  },
  {
    law: "admin: a release is of one hold",
    file: "admin.ts",
    from: "forceRelease(identifier, { ...this.#store, fencingToken })",
    to: "forceRelease(identifier, this.#store)",
    ...ADMIN,
    filter: "never hits the next",
  },
  {
    law: "admin: nothing but its own script runs",
    file: "admin/requests.ts",
    from: "`script-src '${await digest(SCRIPT)}'`",
    to: "`script-src 'unsafe-inline'`",
    ...ADMIN,
    filter: "headers let nothing run",
  },
  {
    law: "admin: a stream that nobody reads ends",
    file: "admin.ts",
    from: "cancel: () => leave(),",
    to: "",
    ...ADMIN,
    filter: "come and go",
  },
  {
    law: "admin: one look for all",
    file: "admin/observer.ts",
    from: "return this.#looking ??= this.#look()",
    to: "return this.#looking = this.#look()",
    ...ADMIN,
    filter: "looked at once",
  },
  {
    law: "admin: a silent store does not keep who looks",
    file: "admin/observer.ts",
    from: "Promise.race([listing.next(), late])",
    to: "listing.next()",
    ...ADMIN,
    filter: "silent",
  },
  {
    law: "admin: the past is forgotten",
    file: "admin/history.ts",
    from: "to < now - WINDOW_MS ||",
    to: "",
    ...ADMIN,
    filter: "what looks have shown",
  },
  {
    law: "admin: the past is bounded",
    file: "admin/history.ts",
    from: "|| this.#spans.size > MAX_SPANS",
    to: "",
    ...ADMIN,
    filter: "bounded",
  },
  {
    law: "admin: late news revives nobody",
    file: "admin/history.ts",
    from: 'else if (span.how === "gone") span.to',
    to: "else span.to",
    ...ADMIN,
    filter: "what looks have shown",
  },
  {
    law: "admin: the focus stays where it is while the page changes",
    file: "admin/assets.ts",
    from: "(known !== undefined || at.id) && ",
    to: "at.id && ",
    test: "tests/admin_browser_test.ts",
  },
  {
    law: "CLI: a command whose lock is lost is terminated",
    file: "cli/run.ts",
    from: 'command.kill("SIGTERM");',
    to: "",
    test: "tests/cli_test.ts",
    filter: "the lock is lost: 76",
  },
  {
    law: "CLI: what does not obey is killed, with its children",
    file: "cli/run.ts",
    from: "if (terminated) command.killRest();",
    to: "",
    test: "tests/cli_test.ts",
    filter: "the lock is lost: 76",
  },
  {
    law: "CLI: a loss that only the release notices is told",
    file: "cli/run.ts",
    from: "if (await held.release()) return code;",
    to: "await held.release();\n    return code;",
    test: "tests/cli_test.ts",
    filter: "lost at the very end",
  },
  {
    law: "CLI: a wait that was interrupted leaves nothing behind",
    file: "cli/store.ts",
    from: "while (peerOf(backend).busy > 0 && performance.now() < late) await setTimeout(LEAVE_POLL_MS);",
    to: "",
    test: "tests/cli_test.ts",
    filter: "a signal while it waits",
  },
  {
    law: "CLI: signals reach the command",
    file: "cli/run.ts",
    from: "return await hold(held, job, (listener) => received = listener);",
    to: "return await hold(held, job, () => received = () => {});",
    test: "tests/cli_test.ts",
    filter: "a signal while the command runs",
  },
  {
    law: "CLI: Ctrl-C reaches the command once",
    file: "cli/run.ts",
    from: "const typed = !this.#leads &&",
    to: "const typed = false &&",
    test: "tests/cli_terminal_test.ts",
    filter: "gets Ctrl-C once",
  },
  {
    law: "CLI: the counter is incremented under the lock",
    file: "cli/run.ts",
    from: "await lock(identifier, { ...options, backend, signal }).acquire();",
    to: "await lock(`${identifier}${process.pid}`, { ...options, backend, signal }).acquire();",
    test: "tests/cli_test.ts",
    filter: "many processes increment",
  },
];

const root = new URL("..", import.meta.url);

async function deno(copy: string, ...args: string[]): Promise<{ code: number; output: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: copy,
    env: { NO_COLOR: "1", SIM_SHRINK: "no" },
  }).output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

if (import.meta.main) await play(Deno.args[0]);

/** Plays the mutants of the laws whose names contain `only`. */
async function play(only = ""): Promise<void> {
  const copy = await Deno.makeTempDir({ prefix: "holdfast-mutants-" });
  let survivors = 0;
  try {
    const { stdout } = await new Deno.Command("git", {
      args: ["ls-files", "-co", "--exclude-standard"],
      cwd: root,
    }).output();
    for (const path of new TextDecoder().decode(stdout).trim().split("\n")) {
      const target = `${copy}/${path}`;
      await Deno.mkdir(target.slice(0, target.lastIndexOf("/")), { recursive: true });
      await Deno.copyFile(new URL(path, root), target);
    }
    console.log("| law | broken | which test went red |\n| --- | --- | --- |");
    for (const { law, file, from, to, test, filter } of MUTANTS) {
      if (!law.includes(only)) continue;
      const path = `${copy}/${file}`;
      const text = await Deno.readTextFile(path);
      if (text.split(from).length !== 2) throw new Error(`${law}: ${file} has not exactly one ${from}`);
      await Deno.writeTextFile(path, text.replace(from, () => to));
      const filters = filter === undefined ? [] : ["--filter", filter];
      const { code, output } = await deno(copy, "test", "-A", "--no-check", "--fail-fast", ...filters, test);
      await Deno.writeTextFile(path, text);
      const red = /^(.+?) \.\.\. FAILED/m.exec(output)?.[1] ?? /^(.+?) => /m.exec(output)?.[1] ??
        /^(Uncaught error from .+?) FAILED/m.exec(output)?.[1] ??
        /(Uncaught \w+Error: .+)$/m.exec(output)?.[1];
      const why = /Law \d broken[^:]*: ([^\n]*)/.exec(output)?.[1];
      const noticed = code !== 0 && red !== undefined;
      if (!noticed) survivors++;
      const line = (code: string) => "`" + code.trim().split("\n")[0].slice(0, 70) + "`";
      const verdict = noticed ? `${red}${why === undefined ? "" : `: ${why}`}` : "**none: it survived**";
      console.log(`| ${law} | ${file}: ${line(from)} → ${to === "" ? "(nothing)" : line(to)} | ${verdict} |`);
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
  if (survivors > 0) {
    console.log(`${survivors} survived`);
    Deno.exit(1);
  }
}
