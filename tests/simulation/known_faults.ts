// The faults that gave a lock to two holders, lost one or left something behind, each put back into the code of
// today: a simulation that does not find them cannot be trusted to find the next. `deno task sim:faults` plays them
// and prints the table; it fails if one is not found.

import type { Weather } from "./schedule.ts";

/** A piece of code as it is, and as it was. */
export interface Edit {
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

/** A fault that the code once had. */
export interface KnownFault {
  /** The commit that mended it. */
  readonly commit: string;
  readonly what: string;
  readonly weather: Weather;
  readonly edits: readonly Edit[];
  /** In how many schedules it must be found. */
  readonly within: number;
}

/** Every fault that is put back. */
export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    commit: "99ea04b",
    what: "a lease is counted from after its record's time was read",
    weather: "rough",
    within: 5000,
    edits: [
      {
        file: "core/acquire.ts",
        from: `    const sent = momentOf(peer.clock);
    const record = claim(acquisition.want(), peer.now());`,
        to: `    const record = claim(acquisition.want(), peer.now());
    const sent = momentOf(peer.clock);`,
      },
      {
        file: "core/acquire.ts",
        from: `      const sent = momentOf(clock);
      const decision = decide(record, acquisition.want(ahead), queue.view());`,
        to: `      const decision = decide(record, acquisition.want(ahead), queue.view());
      const sent = momentOf(clock);`,
      },
      {
        file: "core/hold.ts",
        from: `          const sent = momentOf(peer.clock);
          const step = this.#isIn(record)
            ? release(record, token, peer.now(), heir?.want(), queue.idleSeat, peer.unsure)
            : null;`,
        to: `          const step = this.#isIn(record)
            ? release(record, token, peer.now(), heir?.want(), queue.idleSeat, peer.unsure)
            : null;
          const sent = momentOf(peer.clock);`,
      },
    ],
  },
  {
    commit: "24db146, 12c812c",
    what: "a place in line that lands late is left there (12c812c is its test alone)",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/acquisition.ts",
      from: "if (!mayHold && !this.#stood && !peer.seated.has(key)) return;",
      to: "if (!mayHold && !peer.seated.has(key)) return;",
    }],
  },
  {
    commit: "24db146",
    what: "a thief who is cancelled by those who hear of the theft: a hold that nobody owns",
    weather: "rough",
    within: 1000,
    edits: [{
      file: "core/hold.ts",
      from: `    acquisition.grant(hold);
    // Last, for it calls the users' listeners. The record no longer names it: it need not wait to be told by the store.
    previous?.lose(lossOf(sight.record, previous.token));`,
      to: `    previous?.lose(lossOf(sight.record, previous.token));
    acquisition.grant(hold);`,
    }],
  },
  {
    commit: "24db146",
    what: "a cancelled thief leaves its process in line when the hold is released",
    weather: "rough",
    within: 5000,
    edits: [
      {
        file: "core/hold.ts",
        from: "release(sight.record, token, peer.now(), undefined, seat, peer.unsure)",
        to: "release(sight.record, token, peer.now())",
      },
      {
        file: "core/hold.ts",
        from: "release(record, token, peer.now(), heir?.want(), queue.idleSeat, peer.unsure)",
        to: "release(record, token, peer.now(), heir?.want())",
      },
    ],
  },
  {
    commit: "Core: a hold is its token and its fence",
    what: "a hold is its token alone: a first try that lands late brings a lost one back",
    weather: "wild",
    within: 100_000,
    edits: [{
      file: "core/hold.ts",
      from: "token === this.token && fence === this.fencingToken",
      to: "token === this.token && fence !== undefined",
    }],
  },
  {
    commit: "Core: who does not know the time writes none",
    what: "a process that does not know the time writes when its lease ends, and others judge by it",
    weather: "rough",
    within: 50_000,
    edits: [
      {
        file: "core/record/rules.ts",
        from: "expiresAt: moment(now + leaseMs, unsure)",
        to: "expiresAt: now + leaseMs",
      },
      {
        file: "core/record/rules.ts",
        from: "expiresAt: moment(now + holder.leaseMs, unsure)",
        to: "expiresAt: now + holder.leaseMs",
      },
    ],
  },
  {
    commit: "Core: who does not know the time writes none",
    what: "a process that does not know the time writes since when the lock is free",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/record/rules.ts",
      from: "return unsure ? NEVER_MS + Math.abs(atMs) % 86_400_000 : atMs;",
      to: "return unsure || true ? atMs : NEVER_MS;",
    }],
  },
  {
    commit: "Redis: a deletion by a wrong clock is refused",
    what: "a cleanup by a wrong clock deletes a live lock: the store looks at the clock of replacements only",
    weather: "wild",
    within: 5000,
    edits: [{
      file: "tests/simulation/backend.ts",
      from: "changes.every(({ version }) => version !== null)",
      to: "changes.every(({ version, value }) => version !== null && value !== null)",
    }],
  },
  {
    commit: "Core: a hold that has ended is over since then",
    what: "an expired hold of one's own is over since ever: its process goes past the whole queue",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/local_queue.ts",
      from: "return 1.01 * leaseMs + 5 + elapsed(ended.since);",
      to: "return Infinity + leaseMs;",
    }],
  },
  {
    commit: "Core: a place in the queue is given back",
    what: "a waiter that left while its process held leaves its place for good if that hold is lost",
    weather: "rough",
    within: 20_000,
    edits: [
      {
        file: "core/peer.ts",
        from: "wanted = queue !== undefined && queue.idleSeat === undefined;",
        to: "wanted = queue !== undefined;",
      },
      {
        file: "core/hold.ts",
        from: "if (ghost || queued || this.lost?.reason",
        to: "if (ghost || this.lost?.reason",
      },
    ],
  },
  {
    commit: "Core: a place that lands late is known",
    what: "a place that lands when others here have cleared up is not known to those who wait on",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/acquisition.ts",
      from: "if (this.#stood && !peer.seated.has(key)) peer.seated.set(key, Symbol());",
      to: "",
    }],
  },
  {
    commit: "a22c44f",
    what: "a server clock is judged by what it is when the answer comes, not by what it was",
    weather: "wild",
    within: 20_000,
    edits: [{
      file: "tests/simulation/clocks.ts",
      from: "const behindMs = errorOf(aheadMs, answer);",
      to: "const behindMs = errorOf(server.aheadMs + 0 * aheadMs, answer);",
    }],
  },
];

const root = new URL("../..", import.meta.url);

async function play(only = "", seeds = "1,2,3,4,5"): Promise<void> {
  let missed = 0;
  const copy = await Deno.makeTempDir({ prefix: "holdfast-faults-" });
  try {
    await copyTo(copy);
    console.log(
      "| mended by | what is put back | found after so many schedules, by seed | law |\n| --- | --- | --- | --- |",
    );
    for (const { commit, what, weather, edits, within } of KNOWN_FAULTS) {
      if (!`${commit} ${what}`.includes(only)) continue;
      const before = new Map<string, string>();
      for (const { file, from, to } of edits) {
        const path = `${copy}/${file}`;
        const text = await Deno.readTextFile(path);
        if (!before.has(path)) before.set(path, text);
        if (text.split(from).length !== 2) throw new Error(`${what}: ${file} has not exactly one ${from}`);
        await Deno.writeTextFile(path, text.replace(from, () => to));
      }
      const found: string[] = [];
      const laws = new Set<string>();
      for (const seed of seeds.split(",")) {
        const output = await simulate(copy, weather, seed, within);
        const after = /found after (\d+) schedules/.exec(output)?.[1];
        const law = /(Law \d) broken at [\d.]+ ms: ([^\n]*)/.exec(output);
        if (after === undefined) missed++;
        else laws.add(`${law?.[1]}: ${law?.[2]}`);
        found.push(`${seed}: ${after ?? `not within ${within}`}`);
      }
      for (const [path, text] of before) await Deno.writeTextFile(path, text);
      console.log(`| ${commit} | ${what} (${weather}) | ${found.join(", ")} | ${[...laws].join("; ")} |`);
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
  if (missed > 0) Deno.exit(1);
}

async function simulate(copy: string, weather: Weather, seed: string, runs: number): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", "tests/simulation_test.ts", "--filter", `${weather} weather`],
    cwd: copy,
    env: {
      NO_COLOR: "1",
      SIM_SHRINK: "no",
      SIM_SEED: seed,
      SIM_RUNS: String(runs),
      SIM_LIMIT_MS: "3600000",
    },
  }).output();
  const decoder = new TextDecoder();
  return decoder.decode(stdout) + decoder.decode(stderr);
}

async function copyTo(copy: string): Promise<void> {
  const args = ["ls-files", "-co", "--exclude-standard"];
  const { stdout } = await new Deno.Command("git", { args, cwd: root }).output();
  for (const path of new TextDecoder().decode(stdout).trim().split("\n")) {
    const target = `${copy}/${path}`;
    await Deno.mkdir(target.slice(0, target.lastIndexOf("/")), { recursive: true });
    await Deno.copyFile(new URL(path, root), target);
  }
}

if (import.meta.main) await play(...Deno.args);
