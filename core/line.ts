/** Those that wait, first come first. Mostly there is only one: for that nothing is made, and it is found without a search. */
export class Line<Item> implements Iterable<Item> {
  #first: Item | undefined;
  /** Those behind the first. */
  #others: Set<Item> | undefined;

  get first(): Item | undefined {
    return this.#first;
  }

  get size(): number {
    return this.#first === undefined ? 0 : 1 + (this.#others?.size ?? 0);
  }

  add(item: Item): void {
    if (this.#first === undefined) this.#first = item;
    else (this.#others ??= new Set()).add(item);
  }

  /** Whether it was in it. */
  delete(item: Item): boolean {
    if (item !== this.#first) return this.#others?.delete(item) === true;
    this.#first = undefined;
    if (this.#others === undefined) return true;
    for (const next of this.#others) {
      this.#others.delete(next);
      this.#first = next;
      break;
    }
    return true;
  }

  *[Symbol.iterator](): Iterator<Item> {
    if (this.#first === undefined) return;
    yield this.#first;
    if (this.#others !== undefined) yield* this.#others;
  }
}
