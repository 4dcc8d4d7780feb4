// Where the runtimes' own `navigator.locks` are known to differ from the specification: each of these cases fails there.
// When one passes, the runtime has been mended, and the line goes.

/** Why each case fails, by the runtime. */
export const DEVIATIONS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "Node 24": {
    "arguments: a function may be the options": "takes a function in the second place for the callback",
    "arguments: the third argument is the callback, whatever the second is": "the same",
    "arguments: even if the signal has aborted": "looks at the signal before the other options",
    "arguments: so does a name with a hyphen before it": "looks at the signal before the name",
    "arguments: a method that is called on another object rejects": "does not look on what it is called",
    "holding: it is not called before the request has returned":
      "calls it within the request, if the lock is free",
    "holding: the lock is held until a thenable resolves": "waits for promises only",
    "order: a callback that gets null is not called before the request has returned either":
      "calls it within the request",
    "order: when an exclusive request is given up, the shared ones behind it join the holders":
      "leaves what was given up in the queue until the lock is released",
    "signal: what is given up waits no more": "the same",
    "signal: even if that is false, or nothing": "takes a reason that is false for none",
  },
  "Deno": {
    "arguments: a name is made a string": "leaves the name as it is",
    "arguments: null and undefined, too": "the same",
    "arguments: each member is read once, in the order of their names, after the name": "reads the name last",
    "holding: it is not called before the request has returned":
      "calls it within the request, if the lock is free",
    "order: a callback that gets null is not called before the request has returned either":
      "calls it within the request",
    "order: when an exclusive request is given up, the shared ones behind it join the holders":
      "does not look at the queue when a request leaves it",
    "order: a shared lock is not available while an exclusive request waits":
      "puts it into the queue instead of calling back with null",
    "order: nor if that was made in the same moment before it": "the same",
    "signal: even if that is false, or nothing": "takes a reason of null for none",
    "steal: what its callback comes to changes nothing any more":
      "rejects with the late error of the callback instead of the AbortError",
  },
};
