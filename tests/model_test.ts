// The model: a slice of what `deno task model` goes through, and rules that are known to be broken. A model that does not find
// those proves nothing.
import { assertEquals } from "@std/assert";
import { RULES, type Rules } from "../model/actions.ts";
import { explore, type Explored } from "../model/explore.ts";
import { SETUPS } from "../model/setups.ts";
import type { Setup } from "../model/world.ts";
import type { Evidence } from "../core/record/evidence.ts";
import type { Grant, Members } from "../core/record/members.ts";
import type { Holder } from "../core/record/record.ts";

/** Of how many states one is followed to its end. */
const SETTLE_EVERY = 20;

for (const setup of SETUPS) {
  Deno.test(`model: ${setup.title}`, () => {
    const { violation, states, depth } = explore(setup, { depth: setup.slice, settleEvery: SETTLE_EVERY });
    console.log(`${setup.title}: ${states} states, ${depth} actions`);
    assertEquals(violation, undefined);
  });
}

const { plan, sweep, evict } = RULES;

/** The rules, by evidence that is wrong in this. */
function misled(by: (evidence: Evidence) => Partial<Evidence>): Partial<Rules> {
  return {
    plan: (snapshot, members, evidence) => plan(snapshot, members, { ...evidence, ...by(evidence) }),
  };
}

/** The rules, which are shown these holders instead of those of the record. */
function shown(by: (holders: readonly Holder[], members: Members) => readonly Holder[]): Partial<Rules> {
  return {
    plan(snapshot, members, evidence) {
      const { lock } = snapshot;
      const record = { ...lock.record, holders: by(lock.record.holders, members) };
      return plan({ ...snapshot, lock: { ...lock, record } }, members, evidence);
    },
  };
}

/** What the rules have planned, and on what. */
interface Planned {
  readonly before: readonly Holder[];
  readonly grants: readonly Grant[];
}

/** The rules, which write these holders instead of what they have planned. */
function written(by: (holders: readonly Holder[], planned: Planned) => readonly Holder[]): Partial<Rules> {
  return {
    plan(snapshot, members, evidence) {
      const next = plan(snapshot, members, evidence);
      const { lock, grants = [] } = next;
      if (!lock) return next;
      const holders = by(lock.holders, { before: snapshot.lock.record.holders, grants });
      return { ...next, lock: { ...lock, holders } };
    },
  };
}

/** The rules, whose every written holder is changed like this. */
function changed(by: (holder: Holder) => Holder): Partial<Rules> {
  return written((holders) => holders.map(by));
}

/** Rules that are broken, the law that they break, and the setup that shows it. */
const BROKEN: Record<string, { rules: Partial<Rules>; breaks: number; setup: string }> = {
  "it takes another's clock for its own": {
    rules: misled(() => ({ skewMs: 0 })),
    breaks: 4,
    setup: "two, an answer lost, a crash",
  },
  "it takes a lease for over when it has seen a third of it": {
    rules: misled(({ leaseSeenMs }) => ({ leaseSeenMs: (holder) => 3 * leaseSeenMs(holder) })),
    breaks: 4,
    setup: "two whose clocks mean nothing",
  },
  "it grants beside a holder": {
    rules: {
      plan(snapshot, members, evidence) {
        const next = plan(snapshot, members, evidence);
        const { lock: { record, version } } = snapshot;
        const [first] = members.requests;
        if (first === undefined || record.holders.length === 0 || version === null) return next;
        if (record.holders.some(({ token }) => token === first.token)) return next;
        const holder = { ...record.holders[0], token: first.token, fence: undefined, renewals: 0 };
        const grants = [{ claim: first, token: first.token }];
        return { lock: { ...record, holders: [...record.holders, holder] }, grants, waitMs: Infinity };
      },
    },
    breaks: 1,
    setup: "two, an answer lost, a crash",
  },
  "no process has a grace": {
    rules: misled(() => ({ graceMs: 0 })),
    breaks: 5,
    setup: "three, a crash",
  },
  "a grant has the fencing token of the one before": {
    rules: changed((holder) => ({ ...holder, fence: holder.fence ?? "v00001" })),
    breaks: 3,
    setup: "two, each asks twice",
  },
  "to become the only one, it takes the others out": {
    rules: shown((holders, members) => {
      const ours = holders.filter((holder) => members.intentOf(holder) !== "foreign");
      return ours.some((holder) => members.changeOf(holder)?.to === "exclusive") ? ours : holders;
    }),
    breaks: 4,
    setup: "two readers, each asks",
  },
  "a change of mode keeps the fencing token": {
    rules: changed((holder) => ({ ...holder, fence: holder.fence ?? holder.formerFence })),
    breaks: 3,
    setup: "a writer that comes to share",
  },
  "readers join one that waits to be the only one": {
    rules: shown((holders, members) =>
      holders.map((holder) =>
        members.intentOf(holder) === "foreign" ? { ...holder, upgrades: undefined } : holder
      )
    ),
    breaks: 5,
    setup: "two readers, each may ask",
  },
  "what was handed over stays there when it is taken up": {
    rules: written((holders, { before, grants }) => {
      const taken = before.filter(({ token }) => grants.some(({ claim }) => claim.restores === token));
      return [...holders, ...taken];
    }),
    breaks: 1,
    setup: "two want to take it up",
  },
  "what is taken up keeps its fencing token": {
    rules: written((holders, { before, grants }) => {
      const restoredBy = (granted: string) => grants.find(({ token }) => token === granted)?.claim.restores;
      const fenceOf = ({ token }: Holder) =>
        before.find((holder) => holder.token === restoredBy(token))?.fence;
      return holders.map((holder) => ({ ...holder, fence: holder.fence ?? fenceOf(holder) }));
    }),
    breaks: 3,
    setup: "two want to take it up",
  },
  "what is given back stays": {
    rules: {
      plan(snapshot, members, evidence) {
        const intentOf: typeof members.intentOf = (holder) => {
          const intent = members.intentOf(holder);
          return intent === "leave" ? "foreign" : intent;
        };
        return plan(snapshot, { ...members, intentOf }, evidence);
      },
    },
    breaks: 6,
    setup: "two, an answer lost, a crash",
  },
  "an evicted holder is left no notice": {
    rules: {
      evict(record, options) {
        const evicted = evict(record, options);
        return evicted?.lock ? { lock: { ...evicted.lock, notices: undefined } } : evicted;
      },
    },
    breaks: 4,
    setup: "an operator evicts",
  },
  "a cleanup takes whatever it finds": {
    rules: {
      sweep: (snapshot, olderThanMs, evidence) =>
        sweep(snapshot, olderThanMs, { ...evidence, now: evidence.now + 1e9 }),
    },
    breaks: 4,
    setup: "a cleanup that comes late",
  },
};

/** Nothing else goes wrong, so that the rule's own mistake is found where it is. */
const QUIET = { crashes: 0, losses: 0, cancels: 0 };

function found(rules: Partial<Rules>, loud: Setup): Explored["violation"] {
  const setup = { ...loud, budget: { ...loud.budget, ...QUIET } };
  return explore(setup, { depth: 40, settleEvery: 1, most: 100_000, rules: { ...RULES, ...rules } })
    .violation;
}

Deno.test("model: broken rules are found, each by its law", () => {
  for (const [what, { rules, breaks, setup: title }] of Object.entries(BROKEN)) {
    const violation = found(rules, SETUPS.find((setup) => setup.title.includes(title))!);
    assertEquals(violation?.what.slice(0, 5), `law ${breaks}`, `${what}: ${violation?.what}`);
  }
});
