import { BACKENDS } from "./backends.ts";
import { CLAIMS } from "./claims.ts";
import { CORE } from "./core.ts";
import { DATASTORE } from "./datastore.ts";
import { KV } from "./kv.ts";
import type { Mutant } from "./mutant.ts";
import { OPERATIONS } from "./operations.ts";
import { PROMISES } from "./promises.ts";
import { RECORD } from "./record.ts";
import { POSTGRES } from "./postgres.ts";
import { REDIS } from "./redis.ts";
import { WEB_LOCKS } from "./web_locks.ts";

/** Every line that is broken, by area. */
export const TABLE: Readonly<Record<string, readonly Mutant[]>> = {
  record: RECORD,
  core: CORE,
  promises: PROMISES,
  claims: CLAIMS,
  backends: BACKENDS,
  kv: KV,
  postgres: POSTGRES,
  redis: REDIS,
  datastore: DATASTORE,
  operations: OPERATIONS,
  "web-locks": WEB_LOCKS,
};
