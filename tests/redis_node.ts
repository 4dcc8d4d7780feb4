/** The conformance suite on Redis under `node --test`, as one bundle: see `redis_test.ts`. Its argument: the port. */

import { argv } from "node:process";
import { test } from "node:test";
import { testRedisClients } from "./redis_cases.ts";

testRedisClients(Number(argv[2]), test, test.skip);
