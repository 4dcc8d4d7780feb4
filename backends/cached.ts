/**
 * One backend for each client and each setting. An app may make a backend where it needs one, for each request, say: each
 * would open another connection for subscriptions, and none would be closed.
 */
export class Cached<Backend> {
  readonly #byClient = new WeakMap<object, Map<string, Backend>>();

  /** The backend of a client with these settings, made if there is none. `forget` is for when it is closed. */
  get(client: object, settings: unknown, make: (forget: () => void) => Backend): Backend {
    let made = this.#byClient.get(client);
    if (made === undefined) this.#byClient.set(client, made = new Map());
    const key = JSON.stringify(settings);
    const backends = made;
    const found = backends.get(key);
    if (found !== undefined) return found;
    const backend: Backend = make(() => {
      if (backends.get(key) === backend) backends.delete(key);
    });
    backends.set(key, backend);
    return backend;
  }
}
