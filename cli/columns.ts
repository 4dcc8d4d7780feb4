/** How much room a text takes on a terminal, and what is done where there is too little. */

/** What a terminal draws two cells wide: East Asian scripts and pictures. */
const WIDE =
  /[\p{Emoji_Presentation}\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]/u;
/** What is drawn on the cell of the character before it. */
const NONE = /\p{M}/u;

/** How many cells a printable text takes. */
export function widthOf(text: string): number {
  let cells = 0;
  for (const character of text) cells += cellsOf(character);
  return cells;
}

function cellsOf(character: string): number {
  if (character >= " " && character <= "~") return 1;
  return NONE.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

/** The text, if `width` cells are enough for it, else as much of it as fits before a `…`. */
export function shorten(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  return `${cut(text, width - 1)}…`;
}

/** As much of the text as `width` cells have room for. */
export function cut(text: string, width: number): string {
  let cells = 0;
  let length = 0;
  for (const character of text) {
    cells += cellsOf(character);
    if (cells > width) break;
    length += character.length;
  }
  return text.slice(0, length);
}

/** The text, and spaces up to `width` cells. */
export function padded(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - widthOf(text)));
}

/** What two columns get of the room for both: each what it needs, or else the narrower one that, or each a half. */
export function split(room: number, first: number, second: number): [number, number] {
  const half = Math.floor(room / 2);
  if (first + second <= room) return [first, second];
  if (first <= half) return [first, room - first];
  if (second <= half) return [room - second, second];
  return [room - half, half];
}
