type Listener = () => void;

interface Crowd {
  readonly listeners: Set<Listener>;
  readonly fire: Listener;
}

const crowds = new WeakMap<AbortSignal, Crowd>();

/**
 * Calls `listener` when `signal` aborts, until the returned function is called. However many wait on one
 * signal, it carries one listener: runtimes warn of more than a few, and search them one by one.
 */
export function onAbort(signal: AbortSignal, listener: Listener): () => void {
  const crowd = crowds.get(signal) ?? gather(signal);
  crowd.listeners.add(listener);
  return () => {
    crowd.listeners.delete(listener);
    if (crowd.listeners.size > 0) return;
    crowds.delete(signal);
    // A signal of another make may throw. The caller has an outcome to report, and must not fail because of that.
    try {
      signal.removeEventListener("abort", crowd.fire);
    } catch {
      crowd.listeners.clear();
    }
  };
}

function gather(signal: AbortSignal): Crowd {
  const listeners = new Set<Listener>();
  const fire = () => {
    for (const listener of [...listeners]) listener();
  };
  const crowd = { listeners, fire };
  crowds.set(signal, crowd);
  signal.addEventListener("abort", fire);
  return crowd;
}

/** Why it has aborted; if that cannot be read, because the signal is of another make, why not. */
export function reasonOf(signal: AbortSignal): unknown {
  try {
    return signal.reason;
  } catch (failure) {
    return failure;
  }
}
