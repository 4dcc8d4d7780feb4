// Deno KV under Node: the example of docs/node.md, compiled as it stands there.
import { openKv } from "@deno/kv";
import { configure, lock } from "@holdfast/lock";
import { commitIfHeld, kvBackend } from "@holdfast/lock/backends/kv";

export async function main(): Promise<void> {
  const kv = await openKv("./locks.sqlite");
  configure({ strong: kvBackend(kv, { skewMs: 0 }) });
  await lock("balance").run(async (held) => {
    const entry = await kv.get<number>(["balance"]);
    await commitIfHeld(
      held,
      (atomic) => atomic.check(entry).set(entry.key, (entry.value ?? 0) + 500).enqueue("paid", { delay: 0 }),
    );
  });
  kv.close();
}
