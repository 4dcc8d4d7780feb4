/**
 * Four processes compete for one lock on one SQLite file. One is killed while it holds, one is frozen past its
 * lease, one is evicted while its write is under way. Shows it as it happens and counts; exits non-zero if
 * an increment was lost, two overlapped, or a stale write got through.
 *
 * Run it with `deno task demo`.
 */

import { type Name, NAMES, type Section, Show } from "./show.ts";
import { Screen } from "./screen.ts";
import { paint, Timeline } from "./timeline.ts";

/** One line of the verdict. */
interface Finding {
  readonly ok: boolean;
  readonly count: number;
  readonly what: string;
  readonly detail: string;
}

const INTERRUPTED = new Error("interrupted");

async function main(): Promise<number> {
  const stop = Promise.withResolvers<never>();
  stop.promise.catch(() => {});
  const interrupted = () => stop.reject(INTERRUPTED);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) Deno.addSignalListener(signal, interrupted);

  const dir = await Deno.makeTempDir({ prefix: "holdfast-demo-" });
  const screen = new Screen();
  try {
    screen.print(
      paint("Holdfast", "bold") + "  four processes, one lock, one SQLite file",
      `          ${paint("█", "green")} holds   ${paint("─", "dim")} waits   ` +
        `${paint("▒", "red")} blocks the others: killed, frozen or slow   ` +
        `${paint("░", "cyan")} frozen, lock already lost`,
      "",
    );
    const timeline = new Timeline(NAMES, screen.columns);
    await using show = new Show(timeline, dir);
    const drawing = screen.follow(timeline);
    let complete = true;
    try {
      await Promise.race([show.play(), stop.promise]);
    } catch (error) {
      if (error === INTERRUPTED) throw error;
      // The counts show best what went wrong.
      complete = false;
      screen.print(paint((error as Error).message, "red"), "");
    } finally {
      drawing.stop();
    }
    const findings = await judge(show, `${dir}/kv.sqlite`);
    screen.print(...findings.map(line), `${"".padStart(6)}  ${handOff(show.sections)}`, "");
    return complete && findings.every(({ ok }) => ok) ? 0 : 1;
  } catch (error) {
    screen.print(paint((error as Error).message, "red"));
    return error === INTERRUPTED ? 130 : 1;
  } finally {
    screen.close();
    await Deno.remove(dir, { recursive: true });
    for (const signal of signals) Deno.removeSignalListener(signal, interrupted);
  }
}

/** Compares what the workers say with what the database says. */
async function judge(show: Show, file: string): Promise<Finding[]> {
  using kv = await Deno.openKv(file);
  const number = async (...key: string[]) => (await kv.get<number>(key)).value ?? 0;
  const counter = await number("counter");
  const tallies = await Promise.all(NAMES.map((name) => number("tally", name)));
  const total = tallies.reduce((a, b) => a + b, 0);
  // The killed one may have died between a commit and its acknowledgement, of which there can be one.
  const unacknowledged = NAMES.map((name, i) => tallies[i] - show.acknowledged[name]);
  const exact = counter === total && counter > 0 &&
    NAMES.every((name, i) => unacknowledged[i] === 0 || (name === "ben" && unacknowledged[i] === 1));
  const crossed = overlaps(show.sections);
  const { refusals } = show;
  const by = (name: Name, reason: string, heldWhenSent: boolean) =>
    refusals.some((refusal) =>
      refusal.name === name && refusal.reason === reason && refusal.heldWhenSent === heldWhenSent
    );
  const sum = NAMES.map((name, i) => `${name} ${tallies[i]}`).join(" + ");
  return [{
    ok: exact,
    count: counter,
    what: "guarded increments",
    detail: `${sum} = ${total}; acknowledged: ${total - unacknowledged.reduce((a, b) => a + b, 0)}`,
  }, {
    ok: crossed === 0,
    count: crossed,
    what: "overlaps",
    detail: `in ${show.sections.length} critical sections`,
  }, {
    ok: by("cleo", "expired", false) && by("ada", "stolen", true),
    count: refusals.length,
    what: "stale writes refused",
    detail: refusals.slice(0, 3).map(({ name, reason, heldWhenSent }) =>
      `${name}'s (${reason}${heldWhenSent ? ", found by the store alone" : ""})`
    ).join(", "),
  }];
}

/** How many critical sections began before an earlier one had ended. */
function overlaps(sections: readonly Section[]): number {
  const sorted = sections.toSorted((a, b) => a.from - b.from);
  let until = -Infinity;
  let count = 0;
  for (const { from, to } of sorted) {
    if (from < until) count++;
    until = Math.max(until, to);
  }
  return count;
}

/** How long the lock took from one process to another that was waiting for it. */
function handOff(sections: readonly Section[]): string {
  const sorted = sections.toSorted((a, b) => a.from - b.from);
  const times = sorted.slice(1).flatMap(({ name, asked, from }, i) => {
    const { name: before, released } = sorted[i];
    const passed = released !== undefined && before !== name && asked < released;
    return passed ? [Math.max(0, from - released)] : [];
  }).sort((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)];
  return `${median?.toFixed(1)} ms  median from a release to the next one's grant, in another process`;
}

function line({ ok, count, what, detail }: Finding): string {
  const sign = ok ? paint("✓", "green") : paint("✗", "red");
  return `${sign} ${String(count).padStart(4)}  ${paint(what.padEnd(21), ok ? "bold" : "red")} ${detail}`;
}

Deno.exit(await main());
