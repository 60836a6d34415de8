// What Python computed, and images of it.

import { readFileSync } from 'node:fs';
import { makeImage } from '../../../mtface/publish/page/pixels.js';

export const cases = JSON.parse(readFileSync(process.env.MTFACE_CASES, 'utf8'));

export function toImage({ data, bytes, width, height, channels }) {
  const values = bytes ? Uint8Array.from(data) : Float64Array.from(data);
  return makeImage(values, width, height, channels);
}

/** The largest difference of two lists, and how many differ. */
export function difference(one, other) {
  if (one.length !== other.length) throw new Error(`${one.length} values, not ${other.length}`);
  let [largest, count] = [0, 0];
  for (let i = 0; i < one.length; i++) {
    const apart = Math.abs(one[i] - other[i]);
    if (!(apart <= largest)) largest = apart;
    if (apart !== 0) count++;
  }
  return { largest, count };
}
