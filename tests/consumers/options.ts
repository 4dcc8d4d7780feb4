// What apps write that may have a value for an option, or none: compiled under `exactOptionalPropertyTypes`.
import { configure, Lock, lock, type LockBackend, locks, type LockTargets, releaseAll } from "@holdfast/lock";
import { memoryBackend } from "@holdfast/lock/backends/memory";
import { cleanup } from "@holdfast/lock/cron";
import { adminHandler } from "@holdfast/lock/admin";
import { webLocks } from "@holdfast/lock/web-locks";

export async function main(signal?: AbortSignal, waitForMs?: number, weak?: LockBackend): Promise<void> {
  configure({ strong: memoryBackend(), weak });
  await lock("x", { waitForMs: undefined }).run(async (held) => {
    await held.upgrade({ waitForMs, signal });
  });
  const held: Lock | null = await Lock.acquire("x", { signal, waitForMs, label: undefined });
  await held?.handOver({ leaseMs: undefined });
  const targets: LockTargets = ["a", { identifier: "b", mode: "shared", limit: undefined }];
  await lock(targets, { backend: weak, kind: undefined }).run(() => {});
  for await (const { identifier, unreadable } of locks({ backend: weak, prefix: undefined })) {
    console.log(identifier, unreadable);
  }
  await cleanup({ signal, olderThanMs: undefined });
  await releaseAll({ signal, timeoutMs: undefined });
  adminHandler({ authorize: () => true, title: undefined });
  await webLocks(memoryBackend(), { prefix: undefined }).request("x", { signal }, () => {});
}
