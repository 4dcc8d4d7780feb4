/** One line of the code that is broken on purpose, and the test that must notice. */
export interface Mutant {
  readonly law: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
  /** Which tests must notice: a file, and a filter of names. */
  readonly test: string;
  readonly filter?: string;
}

export const SIMULATION = { test: "tests/simulation_test.ts" };
export const CONFORMANCE = { test: "tests/conformance_test.ts" };
