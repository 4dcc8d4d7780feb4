/** Which process this is, in a few words for people: as far as that is known without a request for permission. */

import { MAX_LABEL_UNITS } from "./core/options.ts";

/** What of a runtime's globals says it. */
export interface Runtime {
  readonly Deno?: {
    readonly pid: number;
    hostname(): string;
    readonly env: { get(name: string): string | undefined };
    readonly permissions: { querySync(query: Permission): { readonly state: string } };
  };
  readonly process?: {
    readonly pid: number;
    /** Node from 20.16 on, Bun and Deno have it: unlike an import it loads nothing where it is not called. */
    getBuiltinModule?(name: string): Partial<Builtin> | undefined;
  };
  /** Of a worker only. */
  readonly WorkerGlobalScope?: unknown;
  /** Of a worker, what it was called when it was made. */
  readonly name?: unknown;
}

type Permission =
  | { readonly name: "sys"; readonly kind: "hostname" }
  | { readonly name: "env"; readonly variable: string };

interface Builtin {
  hostname(): string;
  readonly threadId: number;
}

/**
 * Host and process, such as `web-1:4242`, and the worker where there are several in one process: `web-1:4242 worker 3`. On
 * Deno Deploy, where neither means anything, the region and the deployment. Without the permissions of Deno to know the
 * host, it is the process alone; on a runtime that knows neither, it is `undefined`.
 */
export function processLabel(runtime: Runtime = globalThis as unknown as Runtime): string | undefined {
  const { Deno, process } = runtime;
  const pid = Deno?.pid ?? process?.pid;
  if (pid === undefined) return undefined;
  const place = deploymentOf(Deno) ?? placeOf(hostOf(runtime), pid);
  // The end distinguishes processes of one host.
  return `${place}${workerOf(runtime)}`.toWellFormed().slice(-MAX_LABEL_UNITS);
}

function placeOf(host: string | undefined, pid: number): string {
  return host === undefined || host === "" ? `process ${pid}` : `${host}:${pid}`;
}

function hostOf({ Deno, process }: Runtime): string | undefined {
  return whereKnown(() => {
    if (Deno === undefined) return process?.getBuiltinModule?.("node:os")?.hostname?.();
    return isGranted(Deno, { name: "sys", kind: "hostname" }) ? Deno.hostname() : undefined;
  });
}

function deploymentOf(Deno: Runtime["Deno"]): string | undefined {
  const valueOf = (variable: string) =>
    whereKnown(() =>
      Deno !== undefined && isGranted(Deno, { name: "env", variable }) ? Deno.env.get(variable) : undefined
    );
  const deployment = valueOf("DENO_DEPLOYMENT_ID");
  if (!deployment) return undefined;
  return ["Deno Deploy", valueOf("DENO_REGION"), deployment].filter(Boolean).join(" ");
}

/** To ask Deno for what is not granted would ask the user, or fail. */
function isGranted({ permissions }: NonNullable<Runtime["Deno"]>, permission: Permission): boolean {
  return permissions.querySync(permission).state === "granted";
}

function workerOf({ Deno, process, WorkerGlobalScope, name }: Runtime): string {
  if (Deno === undefined) {
    const threadId = whereKnown(() => process?.getBuiltinModule?.("node:worker_threads")?.threadId) ?? 0;
    return threadId === 0 ? "" : ` worker ${threadId}`;
  }
  if (WorkerGlobalScope === undefined) return "";
  return typeof name === "string" && name !== "" ? ` worker ${name}` : " worker";
}

/** What `look` finds; nothing where a runtime lacks it, or does not let it be known. */
function whereKnown<Value>(look: () => Value): Value | undefined {
  try {
    return look();
  } catch {
    // A label is for people: no lock fails for want of one.
    return undefined;
  }
}
