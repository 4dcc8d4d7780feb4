// The suite, written from the text of the specification (w3c.github.io/web-locks), for any implementation of it.
import { ARGUMENT_CASES } from "./argument_cases.ts";
import { HOLDING_CASES } from "./holding_cases.ts";
import { SIGNAL_CASES, STEAL_CASES } from "./loss_cases.ts";
import { ORDER_CASES } from "./order_cases.ts";
import { NAME_CASES, QUERY_CASES } from "./query_cases.ts";
import type { Case } from "./stage.ts";

/** All cases, by what they are about. */
export const SUITE: Readonly<Record<string, readonly Case[]>> = {
  arguments: ARGUMENT_CASES,
  holding: HOLDING_CASES,
  order: ORDER_CASES,
  signal: SIGNAL_CASES,
  steal: STEAL_CASES,
  query: QUERY_CASES,
  names: NAME_CASES,
};

/** Each case with its full name. */
export function* casesOf(suite: typeof SUITE = SUITE): Generator<Case> {
  for (const [about, cases] of Object.entries(suite)) {
    for (const { says, play } of cases) yield { says: `${about}: ${says}`, play };
  }
}
