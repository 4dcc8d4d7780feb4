import { strict as assert } from "node:assert";
import { setTimeout } from "node:timers/promises";
import type { Change, Entry, LockBackend } from "../core/backend.ts";
import { keyOf } from "../core/identifier.ts";
import type { Cases } from "./stage.ts";

/** How many digits milliseconds since 1970 have, until the year 2286. */
const CLOCK_DIGITS = 13;

/** The law of `core/backend.ts`, clause by clause. */
export const storeCases: Cases = {
  "store: an absent record has neither value nor version": async ({ a, id }) => {
    assert.deepEqual(await a.read([id]), [{ key: id, value: null, version: null }]);
  },

  "store: a commit answers the version that both peers then read": async ({ a, b, id }) => {
    const version = await put(a, { key: id, version: null, value: '"one"' });
    const entry = { key: id, value: '"one"', version };
    assert.deepEqual(await a.read([id]), [entry]);
    assert.deepEqual(await b.read([id]), [entry]);
  },

  "store: several records are read in the order asked for": async ({ a, b, id }) => {
    const version = await put(a, { key: `${id}/b`, version: null, value: '"b"' });
    assert.deepEqual(await b.read([`${id}/c`, `${id}/b`, `${id}/a`]), [
      { key: `${id}/c`, value: null, version: null },
      { key: `${id}/b`, value: '"b"', version },
      { key: `${id}/a`, value: null, version: null },
    ]);
  },

  "store: a present record is not created again": async ({ a, b, id }) => {
    const version = await put(a, { key: id, version: null, value: '"first"' });
    await refused(b, { key: id, version: null, value: '"second"' });
    assert.deepEqual(await b.read([id]), [{ key: id, value: '"first"', version }]);
  },

  "store: a record is replaced only under its latest version": async ({ a, b, id }) => {
    const stale = await put(a, { key: id, version: null, value: '"one"' });
    const version = await put(b, { key: id, version: stale, value: '"two"' });
    await refused(a, { key: id, version: stale, value: '"three"' });
    assert.deepEqual(await a.read([id]), [{ key: id, value: '"two"', version }]);
  },

  "store: rewriting the same value makes a new version": async ({ a, b, id }) => {
    const first = await put(a, { key: id, version: null, value: '"same"' });
    await put(a, { key: id, version: first, value: '"same"' });
    await refused(b, { key: id, version: first, value: '"late"' });
  },

  "store: a record is deleted only under its latest version": async ({ a, b, id }) => {
    const stale = await put(a, { key: id, version: null, value: '"one"' });
    const version = await put(a, { key: id, version: stale, value: '"two"' });
    await refused(b, { key: id, version: stale, value: null });
    assert.deepEqual(await b.read([id]), [{ key: id, value: '"two"', version }]);
    await put(b, { key: id, version, value: null });
    assert.deepEqual(await a.read([id]), [{ key: id, value: null, version: null }]);
  },

  "store: a deleted record is neither replaced nor deleted again": async ({ a, b, id }) => {
    const version = await put(a, { key: id, version: null, value: '"one"' });
    await put(a, { key: id, version, value: null });
    await refused(b, { key: id, version, value: '"two"' });
    await refused(b, { key: id, version, value: null });
    assert.deepEqual(await b.read([id]), [{ key: id, value: null, version: null }]);
  },

  "store: an old version stays stale after delete and recreate": async ({ a, b, id }) => {
    const old = await put(a, { key: id, version: null, value: '"one"' });
    await put(a, { key: id, version: old, value: null });
    const version = await put(a, { key: id, version: null, value: '"one"' });
    await refused(b, { key: id, version: old, value: '"two"' });
    assert.deepEqual(await b.read([id]), [{ key: id, value: '"one"', version }]);
  },

  "store: a commit of several records applies them all under one version": async ({ a, b, id }) => {
    const keys = [`${id}/1`, `${id}/2`, `${id}/3`];
    const gone = await put(a, { key: keys[2], version: null, value: '"old"' });
    const version = await put(
      a,
      { key: keys[0], version: null, value: '"x"' },
      { key: keys[1], version: null, value: '"y"' },
      { key: keys[2], version: gone, value: null },
    );
    assert.deepEqual(await b.read(keys), [
      { key: keys[0], value: '"x"', version },
      { key: keys[1], value: '"y"', version },
      { key: keys[2], value: null, version: null },
    ]);
  },

  "store: one stale version among several stops the whole commit": async ({ a, b, id }) => {
    const keys = [`${id}/1`, `${id}/2`, `${id}/3`];
    const stale = await put(a, ...keys.map((key) => ({ key, version: null, value: '"older"' })));
    const latest = await put(a, ...keys.map((key) => ({ key, version: stale, value: '"old"' })));
    const before = await b.read(keys);
    for (const wrong of [0, 1, 2]) {
      for (const version of [null, stale]) {
        const changes = keys.map((key, i): Change => ({
          key,
          version: i === wrong ? version : latest,
          value: i === 1 ? null : '"new"',
        }));
        await refused(a, ...changes);
        assert.deepEqual(await b.read(keys), before);
      }
    }
  },

  "store: a conflict shows the entries now there, or none": async ({ a, b, id }) => {
    const keys = [`${id}/1`, `${id}/2`];
    await put(a, { key: keys[0], version: null, value: '"there"' });
    const result = await b.commit(keys.map((key) => ({ key, version: null, value: '"mine"' })));
    assert.equal(result.ok, false);
    if (!result.ok && result.entries !== undefined) assert.deepEqual(result.entries, await a.read(keys));
  },

  "store: versions rise strictly across update, delete and recreate": async ({ a, b, id }) => {
    let last = "";
    let current: string | null = null;
    for (let i = 0; i < 30; i++) {
      const value = i % 3 === 2 ? null : `${i}`;
      const version = await put(i % 2 === 0 ? a : b, { key: id, version: current, value });
      assert.ok(version > last, `${version} does not come after ${last}`);
      last = version;
      current = value === null ? null : version;
    }
  },

  "store: versions that are numbers do not change their length": async ({ a, id }) => {
    const version = await put(a, { key: id, version: null, value: '"there"' });
    // Unless it counts by a clock, it is 9 once and then 10, which comes before it in the order of strings.
    const [, digits] = /^\D*([1-9]\d*)$/.exec(version) ?? [];
    assert.ok(
      digits === undefined || digits.length >= CLOCK_DIGITS,
      `version ${version} is a number without leading zeros: one with a digit more would come before it`,
    );
  },

  "store: versions rise strictly across expiry": async ({ a, id }) => {
    const first = await put(a, { key: id, version: null, value: '"short"', expireInMs: 1 });
    await setTimeout(20);
    // Whether it is gone by now is the store's business.
    const [{ version }] = await a.read([id]);
    assert.ok(await put(a, { key: id, version, value: '"next"' }) > first);
  },

  "store: of many that create a record one succeeds": async ({ a, b, id }) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => [a, b][i % 2].commit([{ key: id, version: null, value: `${i}` }])),
    );
    const winner = results.findIndex(({ ok }) => ok);
    assert.equal(results.filter(({ ok }) => ok).length, 1);
    assert.equal((await a.read([id]))[0].value, `${winner}`);
  },

  "store: no update is lost between peers": async ({ a, b, id }) => {
    const increment = async (peer: LockBackend) => {
      for (;;) {
        const [{ version, value }] = await peer.read([id]);
        const next = `${Number(value) + 1}`;
        if ((await peer.commit([{ key: id, version, value: next }])).ok) return;
      }
    };
    await Promise.all([a, b, a, b].map(async (peer) => {
      for (let i = 0; i < 10; i++) await increment(peer);
    }));
    assert.equal((await a.read([id]))[0].value, "40");
  },

  "store: a read of two records never sees half a commit": async ({ a, b, id }) => {
    const keys = [`${id}/left`, `${id}/right`];
    let version = await put(a, ...keys.map((key) => ({ key, version: null, value: "0" })));
    let writing = true;
    const readers = [a, b].map(async (peer) => {
      while (writing) {
        const [left, right] = await peer.read(keys);
        assert.deepEqual([left.value, left.version], [right.value, right.version]);
      }
    });
    const writes = async () => {
      for (let i = 1; i <= 150; i++) {
        version = await put(a, ...keys.map((key) => ({ key, version, value: `${i}` })));
      }
    };
    await Promise.all([...readers, writes().finally(() => writing = false)]);
  },

  "store: a value of 60 000 bytes with any characters comes back as it was": async ({ a, b, id }) => {
    const odd = '"\\\u0000\n\r\u2028é e\u0301 漢字 🔒 \uFEFF';
    const value = JSON.stringify(odd + "x".repeat(59_000));
    await put(a, { key: id, version: null, value });
    assert.equal((await b.read([id]))[0].value, value);
  },

  "store: keys that look alike are different records": async ({ a, b, id }) => {
    const keys = lookalikes(id);
    for (const key of keys) await put(a, { key, version: null, value: JSON.stringify(key) });
    for (const key of keys) {
      const [entry] = await b.read([key]);
      assert.equal(entry.key, key);
      assert.equal(entry.value, JSON.stringify(key));
    }
  },

  "store: the longest keys that the core makes are kept apart": async ({ a, b, id }) => {
    const beginning = id.padEnd(700, "🔒");
    const keys = await Promise.all([
      keyOf(id.padEnd(512, "x")),
      keyOf(id.padEnd(511, "x") + "y"),
      keyOf(beginning + "1"),
      keyOf(beginning + "2"),
    ]);
    for (const [i, key] of keys.entries()) await put(a, { key, version: null, value: `${i}` });
    assert.deepEqual((await b.read(keys)).map(({ value }) => value), ["0", "1", "2", "3"]);
    assert.deepEqual((await listed(b, id)).map(({ key }) => key).sort(), [...keys].sort());
  },

  "store: a listing shows what begins with the prefix and nothing else": async ({ a, b, id }) => {
    const keys = lookalikes(id);
    for (const key of keys) await put(a, { key, version: null, value: JSON.stringify(key) });
    for (const prefix of [...keys, `${id}/`]) {
      const expected = keys.filter((key) => key.startsWith(prefix));
      assert.deepEqual((await listed(b, prefix)).map(({ key }) => key).sort(), expected.sort());
    }
    assert.deepEqual(await listed(b, `${id}/no such`), []);
  },

  "store: a listing shows each entry as a read does, and no deleted one": async ({ a, b, id }) => {
    const version = await put(a, { key: `${id}/1`, version: null, value: '"gone"' });
    await put(a, { key: `${id}/2`, version: null, value: '"there"' });
    await put(a, { key: `${id}/1`, version, value: null });
    assert.deepEqual(await listed(b, id), await b.read([`${id}/2`]));
  },

  "store: a listing is complete, however long": async ({ a, b, id }) => {
    const keys = Array.from({ length: 250 }, (_, i) => `${id}/${i}`);
    await Promise.all(keys.map((key) => put(a, { key, version: null, value: "0" })));
    assert.deepEqual((await listed(b, id)).map(({ key }) => key).sort(), [...keys].sort());
  },

  "store: a listing goes on while records vanish": async ({ a, b, id }) => {
    const keys = Array.from({ length: 250 }, (_, i) => `${id}/${i}`);
    const versions = await Promise.all(keys.map((key) => put(a, { key, version: null, value: "0" })));
    let isDeleted = false;
    for await (const { key, value, version } of b.list(id)) {
      assert.ok(keys.includes(key) && value !== null && version !== null, `it lists ${key} as ${value}`);
      if (isDeleted) continue;
      await Promise.all(keys.map((key, i) => put(a, { key, version: versions[i], value: null })));
      isDeleted = true;
    }
    assert.ok(isDeleted);
    assert.deepEqual(await listed(b, id), []);
  },

  "store: a record does not expire early": async ({ a, b, id }) => {
    const sent = performance.now();
    await put(a, { key: id, version: null, value: '"kept"', expireInMs: 150 });
    for (;;) {
      const [{ value }] = await b.read([id]);
      const elapsed = performance.now() - sent;
      if (elapsed >= 150) break;
      assert.equal(value, '"kept"', `gone after ${elapsed} ms`);
      await setTimeout(5);
    }
  },

  "store: each commit sets the expiry again": async ({ a, b, id }) => {
    const keys = [`${id}/later`, `${id}/never`];
    const version = await put(a, ...keys.map((key) => ({ key, version: null, value: "1", expireInMs: 400 })));
    await put(
      a,
      { key: keys[0], version, value: "2", expireInMs: 60_000 },
      { key: keys[1], version, value: "2" },
    );
    await setTimeout(450);
    assert.deepEqual((await b.read(keys)).map(({ value }) => value), ["2", "2"]);
  },

  "store: the clocks of two peers agree within skewMs": async ({ a, b }) => {
    // A store that keeps its clock as an offset learns it from an answer.
    await Promise.all([a.read(["holdfast-test"]), b.read(["holdfast-test"])]);
    const before = a.now();
    const between = b.now();
    const after = a.now();
    assert.ok(Number.isFinite(between) && before <= after);
    assert.ok(between >= before - a.skewMs && between <= after + a.skewMs, `${between}, not ${before}`);
    assert.ok(a.skewMs >= 0 && a.skewMs === b.skewMs);
    assert.ok(a.graceMs > 0 && Number.isFinite(a.graceMs));
  },

  "store: a watch begins with the entry as it is": async ({ a, b, id }) => {
    assert.deepEqual(await firstOf(b, id), { key: id, value: null, version: null });
    const version = await put(a, { key: id, version: null, value: '"there"' });
    assert.deepEqual(await firstOf(b, id), { key: id, value: '"there"', version });
  },

  "store: a watch shows the commits of either peer": async ({ a, b, id }) => {
    let current: string | null = null;
    await watching(b, id, async (seen) => {
      for (const peer of [a, b, a]) {
        current = await put(peer, { key: id, version: current, value: '"x"' });
        await seen(({ version }) => version === current);
      }
      await put(a, { key: id, version: current, value: null });
      await seen(({ version }) => version === null);
    });
  },

  "store: a watch may skip changes but not the last one": async ({ a, b, id }) => {
    let current: string | null = null;
    await watching(b, id, async (seen) => {
      for (let burst = 0; burst < 5; burst++) {
        for (let i = 0; i < 20; i++) current = await put(a, { key: id, version: current, value: `${i}` });
        await seen(({ version }) => version === current);
      }
    });
  },

  "store: a watch without a name shows what concerns others": async ({ a, b, id }) => {
    let version: string | null = null;
    await watching(b, id, async (seen) => {
      const commits: [value: string | null, ...concerns: string[]][] = [['"1"'], ['"2"', "another"], [null]];
      for (const [value, ...concerns] of commits) {
        const result = await a.commit([{ key: id, version, value }], { concerns });
        assert.ok(result.ok, "the commit was refused");
        version = result.version;
        await seen((entry) => entry.value === value);
      }
    });
  },

  "store: a watch shows nothing of other keys": async ({ a, b, id }) => {
    const keys = [`${id}/1`, `${id}/2`];
    await watching(b, keys[0], async (seen, all) => {
      for (const key of [keys[1], keys[0]]) await put(a, { key, version: null, value: '"x"' });
      await seen(({ value }) => value !== null);
      assert.ok(all.every(({ key }) => key === keys[0]));
    });
  },

  "store: two watches of one key are independent": async ({ a, b, id }) => {
    await watching(b, id, async (seen) => {
      await watching(b, id, async (seenToo) => {
        await put(a, { key: id, version: null, value: '"1"' });
        await Promise.all([seen, seenToo].map((shown) => shown(({ value }) => value === '"1"')));
      });
      const [{ version }] = await a.read([id]);
      await put(a, { key: id, version, value: '"2"' });
      await seen(({ value }) => value === '"2"');
    });
  },

  "store: an aborted watch ends, before it begins, while it waits, and after news": async ({ b, id }) => {
    for (const idle of [false, true]) {
      assert.deepEqual(await collect(b, id, AbortSignal.abort(), idle, () => {}), []);

      const whileItWaits = new AbortController();
      await collect(
        b,
        id,
        whileItWaits.signal,
        idle,
        () => void setTimeout(10).then(() => whileItWaits.abort()),
      );

      const afterNews = new AbortController();
      await collect(b, id, afterNews.signal, idle, () => afterNews.abort());
    }
  },

  "store: an idle watch begins with the entry as it is": async ({ a, b, id }) => {
    const version = await put(a, { key: id, version: null, value: '"there"' });
    const end = new AbortController();
    const [entry] = await collect(b, id, end.signal, true, () => end.abort());
    assert.deepEqual(entry, { key: id, value: '"there"', version });
  },

  "store: a watch that is left ends": async ({ b, id }) => {
    for await (const entry of b.watch(id, { signal: new AbortController().signal })) {
      assert.equal(entry.version, null);
      break;
    }
    assert.equal(b.watches, 0);
  },
};

/** Keys that a careless store would take for one another, or for more than a key. */
function lookalikes(id: string): string[] {
  return [
    ...["a", "A", "a ", " a", "a\u0000", "a\u0000b", "a/b", "a//b", "a:b", "a\\b", "{a}", "a}b", "a*", "a?"],
    ...["[a]", "a%2Fb", "a_b", "a%", "..", "a#b", "a\nb", "a\tb", '"a"', "'a'", "$a", "é", "e\u0301", "🔒"],
    ...["🔑", "\uFEFFa", "ß", "SS", "ı", "i", "I", "\uFFFF", "\u{10FFFF}"],
  ].map((end) => `${id}/${end}`);
}

/** Commits what must succeed; the new version. */
async function put(peer: LockBackend, ...changes: Change[]): Promise<string> {
  const result = await peer.commit(changes);
  assert.ok(result.ok, "the commit was refused");
  assert.equal(typeof result.version, "string");
  return result.version;
}

/** Commits what must be refused. */
async function refused(peer: LockBackend, ...changes: Change[]): Promise<void> {
  assert.equal((await peer.commit(changes)).ok, false, "the commit was not refused");
}

async function listed(peer: LockBackend, prefix: string): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const entry of peer.list(prefix)) entries.push(entry);
  return entries;
}

async function firstOf(peer: LockBackend, key: string): Promise<Entry | undefined> {
  const end = new AbortController();
  const [entry] = await collect(peer, key, end.signal, false, () => end.abort());
  return entry;
}

/** Everything that a watch yields until it ends by itself; calls `shown` after each. */
async function collect(
  peer: LockBackend,
  key: string,
  signal: AbortSignal,
  idle: boolean,
  shown: () => void,
  entries: Entry[] = [],
): Promise<Entry[]> {
  for await (const entry of peer.watch(key, { signal, idle })) {
    entries.push(entry);
    shown();
  }
  return entries;
}

type Seen = (is: (entry: Entry) => boolean) => Promise<void>;

/** Watches `key` while `play` runs; `seen` waits until the latest entry shown is one that is looked for. */
async function watching(
  peer: LockBackend,
  key: string,
  play: (seen: Seen, all: readonly Entry[]) => Promise<void>,
): Promise<void> {
  const end = new AbortController();
  const all: Entry[] = [];
  let look = () => {};
  const ended = collect(peer, key, end.signal, false, () => look(), all);
  const seen: Seen = (is) =>
    new Promise((resolve) => {
      look = () => {
        const latest = all.at(-1);
        if (latest !== undefined && is(latest)) resolve();
      };
      look();
    });
  try {
    await seen(() => true);
    await play(seen, all);
  } finally {
    end.abort();
    await ended;
  }
}
