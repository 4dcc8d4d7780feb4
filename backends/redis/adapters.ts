/** The clients that the backend takes: what it needs of each make, and how they are spoken to alike. */

import { printable } from "../../core/printable.ts";
import { describeClient, refuse } from "../../core/validate.ts";
import { type Emitter, Trouble } from "../trouble.ts";

/** What the backend needs of an `ioredis` client. */
export interface IoRedisClient {
  /** Its options; only these are looked at. */
  readonly options: {
    readonly keyPrefix?: string | undefined;
    readonly db?: number | undefined;
    readonly host?: string | undefined;
    readonly port?: number | undefined;
    readonly name?: string | null | undefined;
  };
  /** `"end"` once it is closed for good. */
  readonly status: string;
  /** Runs a script that the server knows. */
  evalsha(sha: string, keyCount: number, ...args: string[]): Promise<unknown>;
  /** Runs a script. */
  eval(script: string, keyCount: number, ...args: string[]): Promise<unknown>;
  /** Sends any command. */
  call(command: string, ...args: string[]): Promise<unknown>;
  /** Makes another client like this one. */
  duplicate(options: { [name: string]: unknown }): IoRedisSubscriber;
  /** Listens to an event. */
  on(event: string, listener: () => void): unknown;
  /** Ends listening. */
  off(event: string, listener: () => void): unknown;
}

/** What the backend needs of the duplicate of an `ioredis` client. */
export interface IoRedisSubscriber {
  /** `"end"` once it is closed for good. */
  readonly status: string;
  /** Subscribes to channels. */
  subscribe(...channels: string[]): Promise<unknown>;
  /** Ends subscriptions. */
  unsubscribe(...channels: string[]): Promise<unknown>;
  /** Closes the connection. */
  disconnect(): void;
  // deno-lint-ignore no-explicit-any -- The clients' own types name the arguments of each event.
  /** Listens to an event. */ on(event: string, listener: (...args: any[]) => void): unknown;
}

/** What the backend needs of an `ioredis` `Cluster`. */
export interface IoRedisCluster extends Omit<IoRedisClient, "call" | "duplicate"> {
  /** Its options; only this one is looked at. */
  readonly options: { readonly keyPrefix?: string | undefined };
  /** Tells it from a client of a single server. */
  readonly isCluster: boolean;
  /** The clients of its nodes. */
  nodes(role: "master"): Pick<IoRedisClient, "call" | "duplicate">[];
}

/** What the backend needs of a `redis` (node-redis) client. */
export interface NodeRedisClient {
  /** Its options; only these are looked at. */
  readonly options?:
    | { readonly database?: number | undefined; readonly socket?: object | undefined }
    | undefined;
  /** Whether it is connected, or on the way to be. */
  readonly isOpen: boolean;
  /** Sends any command. */
  sendCommand(args: string[]): Promise<unknown>;
  /** Makes another client like this one. */
  duplicate(options: { socket: { reconnectStrategy: false } }): NodeRedisSubscriber;
  /** Listens to an event. */
  on(event: string, listener: () => void): unknown;
  /** Ends listening. */
  off(event: string, listener: () => void): unknown;
}

/** What the backend needs of the duplicate of a `redis` (node-redis) client. */
export interface NodeRedisSubscriber {
  /** Whether it has been connected, and not been closed. */
  readonly isOpen: boolean;
  /** Connects. */
  connect(): Promise<unknown>;
  /** Subscribes to channels. */
  subscribe(channels: string[], listener: (message: string, channel: string) => void): Promise<unknown>;
  /** Ends subscriptions. */
  unsubscribe(channels: string[]): Promise<unknown>;
  /** Closes the connection. */
  destroy?(): void;
  /** Closes the connection, in version 4. */
  disconnect?(): Promise<unknown>;
  /** Listens to an event. */
  on(event: string, listener: () => void): unknown;
}

/** A client, whatever its make. */
export interface ClientAdapter {
  /** What the client itself puts before the name of every key. */
  readonly keyPrefix: string;
  readonly database: number;
  /** Where the server is, as far as the client shows it: never with a password. */
  readonly address: string;
  /** What the client has complained of since it was last connected. */
  readonly trouble: Trouble;
  /** Whether all keys are in the same slot, so that one script may touch any: not in a cluster. */
  readonly sameSlot: boolean;
  /** Whether it is closed for good. */
  readonly closed: boolean;
  /** How often its connection broke, if it then repeats commands whose answer it has not got; NaN if unknown. */
  readonly reconnects: number;
  /** Runs a script that the server knows: `words` are that many keys, and the arguments behind them. */
  evalSha(sha: string, keyCount: number, words: readonly string[]): Promise<unknown>;
  /** Runs a script. */
  eval(script: string, keyCount: number, words: readonly string[]): Promise<unknown>;
  /** Sends a command to each server that holds a part of the keys: one function for each. */
  senders(): ((...command: string[]) => Promise<unknown>)[];
  /** Opens a connection for subscriptions. Once it breaks it is of no more use, and `onEnd` is called. */
  subscriber(onMessage: (channel: string, message: string) => void, onEnd: () => void): Promise<Subscriber>;
  /** Takes our listeners from the client. */
  detach(): void;
}

export interface Subscriber {
  subscribe(channels: string[]): Promise<unknown>;
  unsubscribe(channels: string[]): Promise<unknown>;
  close(): Promise<void>;
}

/** Notes the errors that a client publishes until it is connected. Answers how to end that. */
function complaintsOf(client: Emitter, trouble: Trouble): () => void {
  const stop = trouble.listenTo(client);
  client.on("ready", trouble.forget);
  return () => {
    stop();
    client.off("ready", trouble.forget);
  };
}

/** An address as people write it. */
function addressOf(host: unknown, port: unknown, database: number): string {
  return printable(`${host ?? "localhost"}:${port ?? 6379}${database === 0 ? "" : `/${database}`}`);
}

class IoRedisAdapter implements ClientAdapter {
  readonly trouble: Trouble = new Trouble();
  reconnects = 0;
  readonly #client: IoRedisClient | IoRedisCluster;
  readonly #onBreak = () => void this.reconnects++;
  readonly #onEnd: () => void;
  readonly #stopListening: () => void;

  constructor(client: IoRedisClient | IoRedisCluster, onEnd: () => void) {
    this.#client = client;
    this.#stopListening = complaintsOf(client, this.trouble);
    this.#onEnd = onEnd;
    // Only that way does a cluster show that it has lost the connection to a node.
    for (const event of ["close", "-node"]) client.on(event, this.#onBreak);
    client.on("end", onEnd);
  }

  get keyPrefix(): string {
    return this.#client.options.keyPrefix ?? "";
  }

  get sameSlot(): boolean {
    return !("nodes" in this.#client);
  }

  get address(): string {
    if ("nodes" in this.#client) return "a cluster";
    const { host, port, name } = this.#client.options;
    return typeof name === "string" && name !== ""
      ? printable(`${name}, by sentinels`)
      : addressOf(host, port, this.database);
  }

  get database(): number {
    const { options }: { options: IoRedisClient["options"] } = this.#client;
    return options.db ?? 0;
  }

  get closed(): boolean {
    return this.#client.status === "end";
  }

  evalSha(sha: string, keyCount: number, words: readonly string[]): Promise<unknown> {
    return this.#client.evalsha(sha, keyCount, ...words);
  }

  eval(script: string, keyCount: number, words: readonly string[]): Promise<unknown> {
    return this.#client.eval(script, keyCount, ...words);
  }

  senders(): ((...command: string[]) => Promise<unknown>)[] {
    return this.#nodes().map((node) => (command, ...args) => node.call(command, ...args));
  }

  subscriber(onMessage: (channel: string, message: string) => void, onEnd: () => void): Promise<Subscriber> {
    const nodes = this.#nodes();
    // In a cluster, what is published reaches every node.
    const node = nodes[Math.floor(Math.random() * nodes.length)];
    if (node === undefined) return Promise.reject(new Error("the cluster shows no node"));
    const options = { keyPrefix: "", retryStrategy: null, lazyConnect: false, enableOfflineQueue: true };
    const redis = node.duplicate(options);
    // What goes wrong shows in the commands and in the end.
    redis.on("error", () => {});
    redis.on("message", onMessage);
    const ended = new Promise<void>((resolve) => redis.on("end", resolve));
    redis.on("end", onEnd);
    return Promise.resolve({
      subscribe: (channels) => inParts(channels, (part) => redis.subscribe(...part)),
      unsubscribe: (channels) => inParts(channels, (part) => redis.unsubscribe(...part)),
      close() {
        // To disconnect what has ended by itself would wait for the end of nothing.
        if (redis.status !== "end") redis.disconnect();
        return ended;
      },
    });
  }

  detach(): void {
    for (const event of ["close", "-node"]) this.#client.off(event, this.#onBreak);
    this.#client.off("end", this.#onEnd);
    this.#stopListening();
    // Locks that are still held are released later, and are not counted any more.
    this.reconnects = NaN;
  }

  #nodes(): Pick<IoRedisClient, "call" | "duplicate">[] {
    return "nodes" in this.#client ? this.#client.nodes("master") : [this.#client];
  }
}

class NodeRedisAdapter implements ClientAdapter {
  readonly trouble: Trouble = new Trouble();
  readonly keyPrefix = "";
  readonly sameSlot = true;
  /** This client repeats nothing by itself. */
  readonly reconnects = 0;
  readonly #client: NodeRedisClient;
  readonly #onEnd: () => void;
  readonly #stopListening: () => void;

  constructor(client: NodeRedisClient, onEnd: () => void) {
    this.#client = client;
    this.#stopListening = complaintsOf(client, this.trouble);
    this.#onEnd = onEnd;
    client.on("end", onEnd);
  }

  get database(): number {
    return this.#client.options?.database ?? 0;
  }

  get address(): string {
    const { host, port } = (this.#client.options?.socket ?? {}) as { host?: unknown; port?: unknown };
    return addressOf(host, port, this.database);
  }

  get closed(): boolean {
    return !this.#client.isOpen;
  }

  evalSha(sha: string, keyCount: number, words: readonly string[]): Promise<unknown> {
    return this.#client.sendCommand(["EVALSHA", sha, String(keyCount), ...words]);
  }

  eval(script: string, keyCount: number, words: readonly string[]): Promise<unknown> {
    return this.#client.sendCommand(["EVAL", script, String(keyCount), ...words]);
  }

  senders(): ((...command: string[]) => Promise<unknown>)[] {
    return [(...command) => this.#client.sendCommand(command)];
  }

  async subscriber(
    onMessage: (channel: string, message: string) => void,
    onEnd: () => void,
  ): Promise<Subscriber> {
    const socket = { ...this.#client.options?.socket, reconnectStrategy: false } as const;
    const redis = this.#client.duplicate({ socket });
    const close = () => {
      // What has ended by itself refuses to be ended.
      if (!redis.isOpen) return;
      if (redis.destroy !== undefined) redis.destroy();
      // That of version 4 answers when the connection is closed, and fails if it is so already.
      else redis.disconnect?.().catch(onEnd);
    };
    redis.on("error", () => {
      close();
      onEnd();
    });
    await redis.connect();
    return {
      subscribe: (channels) => redis.subscribe(channels, (message, channel) => onMessage(channel, message)),
      unsubscribe: (channels) => redis.unsubscribe(channels),
      close: () => Promise.resolve(close()),
    };
  }

  detach(): void {
    this.#client.off("end", this.#onEnd);
    this.#stopListening();
  }
}

/** How many channels one command names: a call takes only so many arguments. */
const AT_ONCE = 1000;

async function inParts(channels: string[], send: (part: string[]) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < channels.length; from += AT_ONCE) {
    await send(channels.slice(from, from + AT_ONCE));
  }
}

/** What a client must have, by its make. */
const IOREDIS = ["evalsha", "eval", "call", "duplicate", "on", "off"];
const IOREDIS_CLUSTER = ["evalsha", "eval", "nodes", "on", "off"];
const NODE_REDIS = ["sendCommand", "duplicate", "on", "off"];

/** Clients that the backend does not take: what tells each from the others, its name, and what to take instead. */
const OTHERS: readonly { members: readonly string[]; name: string; instead: string }[] = [
  {
    members: ["evalSha", "nodeClient"],
    name: "a cluster of node-redis",
    instead: "take new Cluster([{ host, port }]) of ioredis",
  },
  {
    members: ["evalSha", "getSentinelNode"],
    name: "a sentinel of node-redis",
    instead: "take new Redis({ name, sentinels }) of ioredis",
  },
  {
    members: ["evalSha", "execute"],
    name: "a pool of node-redis",
    instead: "take a client of createClient, which sends all commands on one connection without waiting",
  },
  {
    members: ["customCommand", "invokeScript"],
    name: "a client of Valkey GLIDE",
    instead: "take new Redis() or new Cluster() of iovalkey, which has the same servers",
  },
  {
    members: ["evalsha", "createScript"],
    name: "Upstash's client over REST, which cannot subscribe",
    instead: "take new Redis(url) of ioredis with the rediss:// address of the database",
  },
];

export function adapterOf(
  client: IoRedisClient | IoRedisCluster | NodeRedisClient,
): (onEnd: () => void) => ClientAdapter {
  const members = client as unknown as Record<string, unknown> | null | undefined;
  const has = (name: string) => typeof members?.[name] === "function";
  const rule =
    "Cannot make a Redis backend: 'client' must be an ioredis Redis or Cluster, or a client of redis " +
    "(node-redis) made by createClient";
  const needed = has("evalSha") ? NODE_REDIS : has("nodes") ? IOREDIS_CLUSTER : IOREDIS;
  const other = OTHERS.find(({ members }) => members.every(has));
  if (other !== undefined) throw new TypeError(`${rule}, current value is ${other.name}: ${other.instead}`);
  const { keyPrefix } = (members?.options ?? {}) as { keyPrefix?: unknown };
  if (needed === IOREDIS_CLUSTER && /[{}]/.test(String(keyPrefix))) {
    refuse(
      `${rule}; the 'keyPrefix' of a Cluster must have no braces, or locks share a slot`,
      keyPrefix,
      RangeError,
    );
  }
  const missing = needed.find((name) => !has(name)) ??
    (needed === NODE_REDIS ? ["isOpen"] : ["options", "status"]).find((name) =>
      members?.[name] === undefined
    );
  if (missing !== undefined) {
    throw new TypeError(`${rule}, current value lacks '${missing}': ${describeClient(client)}`);
  }
  return needed === NODE_REDIS
    ? (onEnd) => new NodeRedisAdapter(client as NodeRedisClient, onEnd)
    : (onEnd) => new IoRedisAdapter(client as IoRedisClient | IoRedisCluster, onEnd);
}
