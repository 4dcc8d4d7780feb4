/** The conformance suite on Redis under Node, as one bundle: see `under_node.ts`. Arguments: the port, the client. */

import { argv } from "node:process";
import { test } from "node:test";
import { testRedisClients } from "./cases.ts";

// They play side by side, and a lease of 100 ms is short for a machine that has as much to do.
testRedisClients(Number(argv[2]), test, test.skip, [argv[3]], 2);
