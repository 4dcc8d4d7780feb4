// A slice of the torture runs (docs/proof.md): some seconds on one store, which must find nothing; and the locks that are known
// to be bad, on the same machinery, each of which must be caught. `HOLDFAST_TORTURE=postgres` plays another store.
import { assertEquals } from "@std/assert";
import { html } from "./torture/report.ts";
import { BAD_LOCKS } from "./torture/bad_locks.ts";
import { type Judged, judgeFolder, type RunOptions, torture } from "./torture/run.ts";
import { STORES } from "./torture/stores.ts";
import { figures, findings } from "./torture/text.ts";
import { leaksOf, sinsOf } from "./torture/verdict.ts";

const STORE = Deno.env.get("HOLDFAST_TORTURE") ?? "redis";
const missing = await STORES[STORE].missing();
const skip = missing !== undefined;
const why = skip ? ` (${missing})` : "";
/** Why the bad locks are not played: they are written for one store. */
const onRedis = STORE === "redis" ? "" : " (they are locks on Redis)";

/** Plays a run in a separate folder, which stays for a look if the test fails. */
async function played(options: Omit<RunOptions, "folder">, check: (judged: Judged) => void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "holdfast-torture-" });
  await torture({ ...options, folder });
  const judged = await judgeFolder(folder);
  await Deno.writeTextFile(`${folder}/report.html`, html(judged));
  console.log(figures(judged).map(([what, value]) => `${what}: ${value}`).join("\n"));
  try {
    check(judged);
  } catch (error) {
    throw new Error(`see ${folder}/report.html: ${(error as Error).message}`, { cause: error });
  }
  await Deno.remove(folder, { recursive: true });
}

Deno.test({
  name: `torture: ${STORES[STORE].title}${why}`,
  ignore: skip,
  // The clients of the test's own keep connections for a while after they are closed.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: () =>
    played({ store: STORE, ms: 11_000, leaseMs: 1000, processes: 4 }, (judged) => {
      assertEquals(findings(judged), []);
      assertEquals(leaksOf(judged.verdict), []);
    }),
});

/** How often one that was not caught is played again, with all freezes for it: what catches it is one at the wrong moment. */
const ROUNDS = 10;

Deno.test({
  name: `torture: locks that are known to be bad are caught${why || onRedis}`,
  ignore: skip || onRedis !== "",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const free = new Set(BAD_LOCKS);
    for (let round = 0; round < ROUNDS && free.size > 0; round++) {
      await played(
        { store: "redis", ms: 8000, leaseMs: 400, processes: 4, bad: [...free] },
        ({ verdict }) => {
          for (const lock of free) if (sinsOf(verdict, lock).length > 0) free.delete(lock);
          assertEquals(sinsOf(verdict, "holdfast"), []);
        },
      );
    }
    assertEquals([...free], []);
  },
});
