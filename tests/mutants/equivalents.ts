/** A mutation of the rules that changes nothing that anybody could see, and why. */
export interface Equivalent {
  readonly file: string;
  readonly within: string;
  readonly from: string;
  readonly to: string;
  readonly because: string;
}

export const EQUIVALENTS: readonly Equivalent[] = [];
