/** The conformance suite on Redis under Node, as one bundle: see `redis_test.ts`. Arguments: the port, the client. */

import { argv } from "node:process";
import { test } from "node:test";
import { testRedisClients } from "./redis_cases.ts";

testRedisClients(Number(argv[2]), test, test.skip, argv[3]);
