/** The suite on Postgres under Node, as one bundle: see `conformance_test.ts`. Arguments: the port, the client. */

import { argv } from "node:process";
import { describe, test } from "node:test";
import { testPostgres } from "./cases.ts";

// They play side by side, and a lease of 100 ms is short for a machine that has as much to do.
describe(argv[3], { concurrency: 2 }, () => {
  testPostgres(argv[3], { port: Number(argv[2]), test, skip: test.skip, stretch: 3 });
});
