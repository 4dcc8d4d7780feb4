/** Markup in which every text that is put in is escaped, so that none can become markup. */

import { printable } from "../core/printable.ts";

/** Markup: what is in it is no text of others, or has been escaped. */
export class Html {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** What can stand in {@linkcode html}; `undefined` and `false` stand for nothing. */
export type Part = Html | string | number | undefined | false | readonly Part[];

const SAFE: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Makes markup of a template: only what is `Html` already goes in as it is. */
export function html(strings: TemplateStringsArray, ...parts: Part[]): Html {
  // How the templates are indented is nothing that need be sent.
  const [first, ...others] = strings.map((text) => text.replace(/\n\s*/g, "\n"));
  return new Html(others.reduce((before, after, i) => before + markup(parts[i]) + after, first));
}

function markup(part: Part): string {
  if (part === undefined || part === false) return "";
  if (part instanceof Html) return part.text;
  if (typeof part === "object") return part.map(markup).join("");
  return exactly(printable(String(part)).toWellFormed()).text;
}

/** A text that comes back to us, such as the value of a field: its invisible characters stay what they are. */
export function exactly(text: string): Html {
  return new Html(text.replace(/[&<>"']/g, (char) => SAFE[char]));
}

/** A length of time in words: `0.4 s`, `12 s`, `2 min 4 s`, `3 h 12 min`, `5 d 2 h`. */
export function lasting(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 1) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit) => Math.floor(whole / unit));
  if (days > 0) return `${days} d ${hours % 24} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  if (minutes > 0) return `${minutes} min ${whole % 60} s`;
  return `${whole} s`;
}

/** A text that fits where little room is. */
export function short(text: string, chars: number): string {
  const all = [...text];
  return all.length > chars ? `${all.slice(0, chars - 1).join("")}…` : text;
}

/** A moment: in UTC, or by the script in the reader's own way. */
export function moment(at: number): Html {
  const iso = new Date(at).toISOString();
  return html`<time datetime="${iso}">${iso.slice(0, 19).replace("T", " ")} UTC</time>`;
}

/** A text of others, which may run from right to left, in quarantine. */
export function bdi(text: string): Html {
  return html`<bdi>${text}</bdi>`;
}
