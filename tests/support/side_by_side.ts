/** Tests that differ only in what they are played on, played side by side: most of each is waiting. */

interface Part {
  readonly where: string;
  readonly play: (() => Promise<void>) | undefined;
}

/** The cases that make the process stand still: next to others they would take these for as long as themselves. */
const FREEZES = /a process that was frozen/;

/**
 * Collects the suites of several stores. Each case becomes one test that plays it on all of them at the same time, a
 * step for each; what a step leaves behind, timers, connections and promises, is found when the test is over.
 */
export class SideBySide {
  readonly #cases = new Map<string, Part[]>();

  /** Takes a test of the name `<store>: <case>`, as `testBackend` registers it. */
  readonly test = (name: string, play: () => Promise<void>): void => this.#add(name, play);

  /** Takes one that is skipped, and says why behind its name: `(deviates: …)`, `(needs …)`. */
  readonly skip = (name: string): void => this.#add(name);

  /** Takes one that is skipped because of this: what it needs is missing. */
  skipBecause(why: string, name: string): void {
    this.skip(`${name} (${why})`);
  }

  /** Registers a test for each case; what the cases are called begins with `name`. */
  register(name: string, options: Pick<Deno.TestDefinition, "sanitizeOps" | "sanitizeResources"> = {}): void {
    for (const [title, parts] of this.#cases) {
      Deno.test({ ...options, name: `${name}: ${title}` }, async (test) => {
        const playOn = ({ where, play }: Part) =>
          test.step({
            name: where,
            ignore: play === undefined,
            fn: () => play!(),
            sanitizeOps: false,
            sanitizeResources: false,
            sanitizeExit: false,
          });
        if (FREEZES.test(title)) { for (const part of parts) await playOn(part); }
        else await Promise.all(parts.map(playOn));
      });
    }
  }

  #add(name: string, play?: Part["play"]): void {
    const [where, ...title] = name.split(": ");
    const key = title.join(": ").replace(/ \((deviates:|needs) .*\)$/, "");
    const parts = this.#cases.get(key) ?? [];
    parts.push({ where: play === undefined ? name : where, play });
    this.#cases.set(key, parts);
  }
}
