// Which files of the package an import of its main entry point loads, one in a line.
import { register } from "node:module";

const hooks = `
  import { writeSync } from "node:fs";
  export function load(url, context, next) {
    const [, file] = url.split("/@holdfast/lock/");
    if (file) writeSync(1, file + "\\n");
    return next(url, context);
  }`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
await import("@holdfast/lock");
