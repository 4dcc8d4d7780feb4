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
  /** The test that finds it instead, if the simulation comes there too rarely. */
  readonly test?: string;
}

/** Every fault that is put back. */
export const KNOWN_FAULTS: readonly KnownFault[] = [
  {
    commit: "99ea04b",
    what: "a lease is counted from after its record's time was read",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/local_lock.ts",
      from: `    const at = now ?? momentOf(this.clock);
    members.lookAt(at);
    const next = plan(snapshot, members, this.#knowledge.evidence(snapshot, at));`,
      to: `    const before = now ?? momentOf(this.clock);
    members.lookAt(before);
    const next = plan(snapshot, members, this.#knowledge.evidence(snapshot, before));
    const at = momentOf(this.clock);`,
    }],
  },
  {
    commit: "24db146, 12c812c",
    what: "what may have been left is not withdrawn: a grant or an entry that lands late stays",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/conversation.ts",
      from: "this.#participant.lock(this.#lock.key).mayHaveLeft(question.trace);",
      to: "",
    }],
  },
  {
    commit: "24db146",
    what: "a grant to a request that was cancelled meanwhile: a hold that nobody owns",
    weather: "rough",
    within: 1000,
    edits: [{
      file: "core/outcomes.ts",
      from: "if (!request.isWaiting || fence === undefined) return;",
      to: "if (fence === undefined) return;",
    }],
  },
  {
    commit: "24db146",
    what: "a process that nobody waits in any more stays in the queue when its hold is released",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/record/queue.ts",
      from: "if (claim === undefined) return [];",
      to: "if (claim === undefined) return [entry];",
    }],
  },
  {
    commit: "Core: a hold is its token and its fence",
    what: "a hold is its token alone: a first try that lands late brings a lost one back",
    weather: "wild",
    within: 2000,
    edits: [{
      file: "core/members.ts",
      from: "return named === token && (fence === fencingToken || formerFence === fencingToken);",
      to: "return named === token && (fence ?? formerFence ?? fencingToken) !== undefined;",
    }],
  },
  {
    commit: "Core: who does not know the time writes none",
    what: "a process that does not know the time writes when its lease ends, and others judge by it",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/record/evidence.ts",
      from: "return skewMs === Infinity ? null : now + leaseMs;",
      to: "return skewMs < 0 ? null : now + leaseMs;",
    }, {
      file: "core/record/queue.ts",
      from: "const expiresAt = end && Math.floor(end - evidence.errorMs);",
      to: "const expiresAt = end && Math.floor(evidence.errorMs < Infinity ? end - evidence.errorMs : end);",
    }],
  },
  {
    commit: "Core: who does not know the time writes none",
    // Since locks are offered, only a release that leaves out a queue whose first has just come says so.
    what: "a process that does not know the time writes since when the lock is free",
    weather: "rough",
    within: 0,
    test: "tests/rules_test.ts",
    edits: [{
      file: "core/record/evidence.ts",
      from: "return skewMs === Infinity ? null : now;",
      to: "return skewMs < 0 ? null : now;",
    }],
  },
  {
    commit: "Redis: a deletion by a wrong clock is refused",
    what: "a cleanup by a wrong clock deletes a live lock: the store looks at the clock of replacements only",
    weather: "wild",
    within: 5000,
    edits: [{
      file: "tests/simulation/backend.ts",
      from: "const makes = changes.length === 1 && changes[0].version === null;",
      to: "const makes = changes.length === 1 && (changes[0].version === null || changes[0].value === null);",
    }],
  },
  {
    commit: "Core: a hold that has ended is over since then",
    what: "an expired hold of one's own is over since ever: its process goes past the whole queue",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/record/queue.ts",
      from: "(frees ? 0 : freeForMs(record, lapsed, evidence))",
      to: "(frees ? Infinity : freeForMs(record, lapsed, evidence))",
    }],
  },
  {
    commit: "Core: a place in the queue is given back",
    what: "a waiter that left while its process held leaves its place for good if that hold is lost",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/members.ts",
      from:
        "if (this.requests.size + this.departures.length > 0 || this.queuedIn !== undefined) return true;",
      to: "if (this.requests.size + this.departures.length > 0) return true;",
    }],
  },
  {
    commit: "Core: a place that lands late is known",
    what: "an entry that may have landed late is looked for in the lock's record alone",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/local_lock.ts",
      from: "const isKnown = record.queue === undefined || snapshot.queue !== undefined;",
      to: "const isKnown = true;",
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
      to: "const behindMs = errorOf(server.aheadAt(clock.monotonicMs()) + 0 * aheadMs, answer);",
    }],
  },
  {
    commit: "Offers",
    what: "an offer is taken without a look at the clock",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/outcomes.ts",
      from: "const leftMs = expiresAt - clockErrorMs - backend.now() - sleptMs(asked, from);",
      to: "const leftMs = leaseMs + 0 * (expiresAt - clockErrorMs - backend.now() - sleptMs(asked, from));",
    }],
  },
  {
    commit: "Offers",
    what: "an offer is taken whatever token it has",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/members.ts",
      from: "return token === entryToken && fence",
      to: "return token !== undefined && fence",
    }],
  },
  {
    commit: "Offers",
    what: "a hold is proven by its token alone: a stale guarded write passes",
    weather: "wild",
    within: 2000,
    edits: [{
      file: "core/local_lock.ts",
      from: "if (version !== null && this.#outcomes.recognise(record, hold)) return [{ key, version }];",
      to:
        "if (version !== null && record.holders.some(({ token }) => token === hold.token)) return [{ key, version }];",
    }],
  },
  {
    commit: "Core: an offer is taken once",
    what: "an offer that left the queue out is taken a second time while its hold is given back",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/members.ts",
      from: " && fence !== this.#takenFence",
      to: "",
    }],
  },
  {
    commit: "Core: an offer is taken once",
    what: "an entry that was offered the lock stays ahead of the others, as the offer left the queue out",
    // The process that writes the queue next clears it away: it costs a grace only where none does.
    weather: "rough",
    within: 0,
    test: "tests/rules_test.ts",
    edits: [{
      file: "core/record/queue.ts",
      from: "const entries = stored.some(isOffered) ? stored.filter((entry) => !isOffered(entry)) : stored;",
      to: "const entries = stored.some(isOffered) ? stored : stored;",
    }],
  },
  {
    commit: "Core: a machine that has slept takes no offer unconfirmed",
    what: "a machine that has slept takes an offer by a server's clock that stood still",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/outcomes.ts",
      from: "backend.now() - sleptMs(asked, from);",
      to: "backend.now() - 0 * sleptMs(asked, from);",
    }],
  },
  {
    commit: "Core: a queue's name goes only if the queue is as it was seen",
    // A process that was dropped with the name looks again before long, and joins again.
    what: "a release drops the queue's name although somebody has just joined it",
    weather: "rough",
    within: 0,
    test: "tests/rules_test.ts",
    edits: [{
      file: "core/record/queue.ts",
      from: "if (writesLock) return null;",
      to: "if (writesLock) return undefined;",
    }],
  },
  {
    commit: "Core: what may have been left while a question was open is looked for",
    what: "what may have been left while a question was open is not looked for after its answer",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/local_lock.ts",
      from: "const isOld = footprint.isYoungerThan(askedMs) || (",
      to: "const isOld = (",
    }],
  },
  {
    commit: "Core: what is ours and nobody owns is looked for until it has been taken out",
    what: "a withdrawal whose commit is lost is not repeated",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/local_lock.ts",
      from: "const left = this.#members.leftIn(record);",
      to: "const left = this.#members.leftIn({ ...record, holders: [] });",
    }],
  },
  {
    commit: "Core: a thief asks for the queue first",
    what: "one that steals from its own process goes past a queue that it does not know",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/record/plan.ts",
      from: "  if (admits(standing, first)) return NEEDS_QUEUE;",
      to: `  if (admits(standing, first) && holds) {
    const claims = [...grants, grantOf(first)];
    const steal = { holders: [...standing, holderOf(first, scene.evidence)], queue: record.queue };
    const notices = noticesOf(scene, { grants: claims, evicted: kept });
    return { lock: recordOrNull({ ...steal, notices, freedAt: undefined }), grants: claims, waitMs: Infinity };
  }
  if (admits(standing, first)) return NEEDS_QUEUE;`,
    }],
  },
  {
    commit: "Core: a thief asks for the queue first",
    what: "a commit that confirms a grant steals it for the next request at once",
    weather: "wild",
    within: 20_000,
    edits: [{
      file: "core/record/room.ts",
      from: "if (isGranted || evictableInMs(holder, patienceMs, evidence) > 0) continue;",
      to: "if (evictableInMs(holder, patienceMs, evidence) > 0) continue;",
    }],
  },
  {
    commit: "Core: who is frozen until after its retry is due retries all the same",
    what: "a process that is frozen until after its retry is due never retries",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/local_lock.ts",
      from: "if (!isAsking && (this.#knowledge.snapshot === undefined || pauseMs > now.monotonic)) {",
      to: "if (!isAsking && pauseMs > now.monotonic) {",
    }],
  },
  {
    commit: "Core: a waiter looks who holds the lock when that has changed for half a grace",
    what: "a waiter counts the lease of a holder that has long been followed by another",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/knowledge.ts",
      from: "this.#outdatedMs = Math.min(this.#outdatedMs, now + laterMs);",
      to: "this.#outdatedMs = Math.min(this.#outdatedMs, now + 1000 * laterMs);",
    }],
  },
  {
    commit: "Core: a hold that is stolen here while it is let go of was not released",
    what: "a commit that steals a hold of its own process passes for its release",
    weather: "rough",
    within: 20_000,
    edits: [{
      file: "core/outcomes.ts",
      from: '|| lossOf(after, hold.token) !== "expired") continue;',
      to: ") continue;",
    }],
  },
  {
    commit: "Core: whose turn it is is read when a lease is over",
    what: "a waiter lets the turn of one pass that has left the queue long ago",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/local_lock.ts",
      from: "if (overForMs !== undefined && at.monotonic - overForMs > this.#knowledge.askedMs) {",
      to: "if (overForMs !== undefined && at.monotonic - overForMs > Infinity) {",
    }],
  },
  {
    commit: "Core: a lock that is freed without its queue says since when",
    what: "a lock that is freed while its queue is left out seems to have been free since ever",
    // Rare: a process joins an empty queue in the moment in which a release that leaves it out lands.
    weather: "calm",
    within: 0,
    test: "tests/rules_test.ts",
    edits: [{
      file: "core/record/plan.ts",
      from: "first === undefined ? !isFull(holders) : admits(holders, first);",
      to: "first !== undefined && admits(holders, first);",
    }],
  },
  {
    commit: "Core: who was taken out of the queue looks at the lock",
    what:
      "one that was taken out of the queue, as the lock was offered to it, goes without a look at the lock",
    weather: "calm",
    within: 5000,
    edits: [{
      file: "core/local_lock.ts",
      from: "this.#know(isOut ? undefined : written.snapshot, at.monotonic);",
      to: "this.#know(isOut && false ? undefined : written.snapshot, at.monotonic);",
    }],
  },
  {
    commit: "Core: who leaves the queue out knows it from the store",
    what: "a forged message names the one that a lock is offered to",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/knowledge.ts",
      from: "if (this.#snapshot === undefined || leavesQueueOut) return;",
      to: "if (this.#snapshot === undefined) return;",
    }],
  },
  {
    commit: "Core: an offer comes with the queue of its own commit, or with none",
    what:
      "two processes pass an offer to each other without end, as old news of the queue says it is not theirs",
    weather: "rough",
    within: 5000,
    edits: [{
      file: "core/knowledge.ts",
      from: "const queue = told?.version === news.version ? told : undefined;",
      to: "const queue = told;",
    }],
  },
  {
    commit: "Simulation: several locks together",
    what: "whoever waits for several locks gives up, and the next in line is not told that its turn has come",
    weather: "calm",
    within: 0,
    test: "tests/rules_test.ts",
    edits: [{
      file: "core/record/plan.ts",
      from: "const leavesHead = head !== undefined &&",
      to: "const leavesHead = standing.length > 0 && head !== undefined &&",
    }],
  },
  {
    commit: "Simulation: several locks together",
    what: "a hold of several locks has different fencing tokens in their records, and takes itself for none",
    // Rare: it steals from one of them, next to readers that are before it in the queue.
    weather: "rough",
    within: 0,
    test: "tests/rules_test.ts",
    edits: [{
      file: "core/record/queue.ts",
      from: "else granted.unshift(holder);",
      to: "else granted.push(holder);",
    }],
  },
  {
    commit: "Simulation: several locks together",
    what: "an upgrade waits for ever for a reader that has died, where clocks mean nothing",
    weather: "wild",
    within: 0,
    test: "tests/local_lock_test.ts",
    edits: [{
      file: "core/knowledge.ts",
      from: "const waits = requests.size > 0 || changes.length > 0;",
      to: "const waits = requests.size > 0;",
    }],
  },
];

const root = new URL("../..", import.meta.url);

/** Plays the faults whose row has this text in it, with each of these seeds, in at most so many schedules. */
async function play(only = "", seeds = "1,2,3,4,5", most = "Infinity"): Promise<void> {
  let missed = 0;
  const copy = await Deno.makeTempDir({ prefix: "holdfast-faults-" });
  try {
    await copyTo(copy);
    console.log(
      "| mended by | what is put back | found after so many schedules, by seed | law |\n| --- | --- | --- | --- |",
    );
    for (const { commit, what, weather, edits, within, test } of KNOWN_FAULTS) {
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
      if (test !== undefined) {
        const { code } = await new Deno.Command(Deno.execPath(), {
          args: ["test", "-A", "--no-check", test],
          cwd: copy,
        }).output();
        if (code === 0) missed++;
        found.push(code === 0 ? `not by ${test}` : `by ${test}`);
      }
      for (const seed of test === undefined ? seeds.split(",") : []) {
        const runs = Math.min(within, Number(most));
        const output = await simulate(copy, { weather, seed, runs });
        const after = /found after (\d+) schedules/.exec(output)?.[1] ??
          (output === HANGS ? "a hang" : undefined);
        const law = /(Law \d) broken at [\d.]+ ms: ([^\n]*)/.exec(output) ??
          /error.*?: (Error|\w*Error): (.*)/.exec(output);
        if (after === undefined) missed++;
        else laws.add(`${law?.[1]}: ${law?.[2]}`);
        found.push(`${seed}: ${after ?? `not within ${runs}`}`);
      }
      for (const [path, text] of before) await Deno.writeTextFile(path, text);
      console.log(`| ${commit} | ${what} (${weather}) | ${found.join(", ")} | ${[...laws].join("; ")} |`);
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
  if (missed > 0) Deno.exit(1);
}

/** How long the schedules of one seed may take. A fault may also show in that one never ends. */
const LIMIT_MS = 600_000;
const HANGS = "it never ended";

async function simulate(
  copy: string,
  { weather, seed, runs }: { readonly weather: Weather; readonly seed: string; readonly runs: number },
): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--no-check", "tests/simulation_test.ts", "--filter", `${weather} weather`],
    cwd: copy,
    env: {
      NO_COLOR: "1",
      SIM_SHRINK: "no",
      SIM_SEED: seed,
      SIM_RUNS: String(runs),
      SIM_LIMIT_MS: String(LIMIT_MS),
    },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS + 60_000);
  const { stdout, stderr, signal } = await child.output();
  clearTimeout(timer);
  if (signal === "SIGKILL") return HANGS;
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
